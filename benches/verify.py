#!/usr/bin/env python3
"""Cost of `hufu verify`: a demonstration's pack against the sum of its SM2 verifications, and a synthetic month of one order.

    make release && benches/verify.py          HUFU_BIN_DIR and CARGO_TARGET_DIR as for the other scripts

Medians over interleaved rounds; a round runs the reference loop of SM2 verifications, `hufu verify` of each pack, and
`hufu --version` for what a start costs. CPU time of whole processes by the kernel's book, all threads, start included.
Ends with status 1 when a bar is missed."""

import os
import pathlib
import resource
import subprocess
import tempfile
import time
import zipfile

from house import ROOT, median, program, run

ROUNDS = 11
PACK_BYTES_MAX = 16 * 2**20
MONTH_S_MAX = 2.0


def timed(*command):
    """CPU and wall time of a program that must end well."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wall = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.returncode} {done.stderr.decode()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def cargo(*arguments):
    """Builds and runs; what it prints."""
    done = subprocess.run(["cargo", "run", "--quiet", "--release", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"cargo run {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    return done.stdout


def one_verification_s():
    return int(cargo("--manifest-path", "benches/sm2/Cargo.toml")) / 1e9


def verifications(pack):
    """SM2 verifications that a pack asks for at least: its signatures, and each certificate's and revocation list's own."""
    with zipfile.ZipFile(pack) as archive:
        names = archive.namelist()
        return len(archive.read("signed/index.tsv").splitlines()) + sum(n.startswith(("certs/", "crls/")) for n in names)


def main():
    missed = []

    def bar(what, value, limit, unit):
        print(f"  {what}: {value:.3g} {unit}, {value / limit:.2f} of the bar of {limit:.3g} {unit}")
        if value >= limit:
            missed.append(what)

    with tempfile.TemporaryDirectory(prefix="hufu-bench-") as folder:
        _, demo = run("hufu", "demo", "--seconds", "20", "--dir", str(pathlib.Path(folder) / "demo"))
        month = f"{folder}/month.zip", f"{folder}/month.pem"
        cargo("-p", "hufu-audit", "--example", "month", "--", *month)
        packs = {"demonstration": (demo["pack"], demo["trust"]), "month of one order": month}
        one, start, took = [], [], {name: [] for name in packs}
        for _ in range(ROUNDS):
            one.append(one_verification_s())
            start.append(timed(program("hufu"), "--version")[0])
            for name, (pack, trust) in packs.items():
                took[name].append(timed(program("hufu"), "verify", pack, "--trust", trust))
        print(f"one SM2 verification {median(one) * 1e6:.0f} us, a start of hufu {median(start) * 1000:.1f} ms of CPU")
        for name, (pack, _) in packs.items():
            count = verifications(pack)
            cpu, wall = median(c for c, _ in took[name]), median(w for _, w in took[name])
            share = median(count * o / c for o, (c, _) in zip(one, took[name]))
            print(f"{name}: {count} SM2 verifications, {share:.0%} of {cpu * 1000:.1f} ms of CPU ({wall * 1000:.1f} ms of wall)")
            if name == "demonstration":
                bar("CPU against 3 x their sum + 50 ms", cpu * 1000, (3 * count * median(one) + 0.05) * 1000, "ms")
            else:
                bar("size", os.path.getsize(pack) / 2**20, PACK_BYTES_MAX / 2**20, "MiB")
                bar("CPU", cpu, MONTH_S_MAX, "s")
                bar("wall", wall, MONTH_S_MAX, "s")
    if missed:
        raise SystemExit("missed: " + ", ".join(missed))


main()
