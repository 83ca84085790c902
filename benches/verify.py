#!/usr/bin/env python3
"""Cost of `hufu verify`: a demonstration's pack against the sum of its SM2 verifications, and a synthetic month of one order.

CPU time of whole runs, pairs interleaved with a run that does nothing (`hufu --version`)."""

import os
import pathlib
import resource
import subprocess
import tempfile
import zipfile

from house import ROOT, median, program, run

PAIRS = 11


def cpu_s(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.returncode} {done.stderr.decode()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def weigh(name, pack, trust, bar):
    times = []
    for _ in range(PAIRS):
        times.append(cpu_s(program("hufu"), "verify", pack, "--trust", trust))
        cpu_s(program("hufu"), "--version")
    with zipfile.ZipFile(pack) as archive:
        count = len(archive.read("signed/index.tsv").splitlines())
        count += sum(name.startswith("certs/") for name in archive.namelist())
    print(f"{name}: {os.path.getsize(pack) / 2**20:.2f} MiB, {count} signatures, verified in {median(times) * 1000:.0f} ms of CPU{bar(count, median(times))}")


build = ["cargo", "run", "--quiet", "--release", "--manifest-path", ROOT / "benches" / "sm2" / "Cargo.toml"]
one_s = int(subprocess.run(build, check=True, capture_output=True, text=True).stdout) / 1e9
print(f"one SM2 verification: {one_s * 1e6:.0f} us")
with tempfile.TemporaryDirectory(prefix="hufu-bench-") as folder:
    _, demo = run("hufu", "demo", "--seconds", "20", "--dir", str(pathlib.Path(folder) / "demo"))
    def ratio(count, seconds):
        allowed = 3 * count * one_s + 0.05
        return f", {seconds / allowed:.2f} of the bar (3 x their sum + 50 ms = {allowed * 1000:.0f} ms)"
    weigh("demonstration", demo["pack"], demo["trust"], ratio)
    month = ROOT / "audit" / "examples" / "month.rs"
    if month.exists():
        pack, trust = f"{folder}/month.zip", f"{folder}/month.pem"
        subprocess.run(["cargo", "run", "--quiet", "--release", "-p", "hufu-audit", "--example", "month", "--", pack, trust],
                       cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        weigh("month of one order", pack, trust, lambda _, s: f" (bars: 16 MiB, 2000 ms): {s / 2:.2f} of the bar")
