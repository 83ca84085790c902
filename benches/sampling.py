#!/usr/bin/env python3
"""What metering costs: one sampling round at 1, 10, 100 and 1,000 orders against a C loop that keeps the same files open and
preads them, alternating in one run; memory of the process and of the kernel per order; a busy node of 100 orders at 1 s.

Bars: a round is at most 1.3 times the loop's up to 256 orders and 5 times beyond, where files are opened for each reading; a
busy node costs less than 1 % of one core. Cgroups of its own only, removed at the end. `sampling.py [SECONDS]`: how long the busy
node runs (60)."""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile

from house import ROOT, median
from place import Place

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
COUNTS = (1, 10, 100, 256, 1000)
PARENT = "hufu-bench-sampling"
EACH = {"cpuacct.usage", "memory.usage_in_bytes", "memory.current", "io.stat"}
TENTH = {"cpu.stat", "pids.current", "cpu.pressure", "memory.pressure", "io.pressure"}
HOST = ("/proc/meminfo", "/proc/diskstats", "/proc/net/dev", "/sys/devices/system/cpu/online")
FILES_BAR, OPENED_BAR, CORE_BAR = 1.3, 5.0, 0.01


def example():
    """The example, built as the programs are."""
    if "HUFU_SAMPLING" in os.environ:
        return os.environ["HUFU_SAMPLING"]
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "hufu-metering", "--example", "sampling"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "examples" / "sampling")


def sampling(*words):
    return subprocess.run([PROGRAM, *map(str, words)], check=True, capture_output=True, text=True).stdout


def order_files(orders):
    """The files that the sampler reads, as it names them itself while it keeps them open for one order."""
    held = subprocess.Popen([PROGRAM, "hold", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    held.stdout.readline()
    names = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{held.pid}/fd").iterdir()]
    held.communicate()
    mine = sorted(name for name in names if f"/{PARENT}/order-0/" in name)
    version1 = any(name.endswith("/cpuacct.usage") for name in mine)
    root = [name.replace(f"/{PARENT}/order-0/", "/") for name in mine if name.endswith(("/cpuacct.usage", "/cpu.stat"))][:1]
    lines = [f"1 {name}" for name in [*HOST, *root]]
    for order in range(orders):
        for name in mine:
            base = name.rsplit("/", 1)[1]
            often = 1 if base in EACH or (base == "cpu.stat" and not version1) else 10
            lines.append(f"{often} {name.replace('order-0', f'order-{order}')}")
    return lines, len(mine)


def ratio(orders):
    lines, _ = order_files(orders)
    (FOLDER / "files").write_text("\n".join(lines) + "\n")
    rounds = max(200, min(4000, 100_000 // orders))
    ours, loops, each = [], [], []
    for _ in range(5):
        own = median([int(x) for x in sampling("rounds", orders, rounds).split()])
        loop = subprocess.run([FOLDER / "pread", str(rounds), FOLDER / "files"], check=True, capture_output=True, text=True)
        loop = median([int(x) for x in loop.stdout.split()])
        ours.append(own)
        loops.append(loop)
        each.append(own / loop)
    return median(ours), median(loops), median(each)


def memory(orders):
    """Resident and kernel memory of the sampler alone in a cgroup of its own."""
    place = Place(f"hufu-bench-weight-{orders}")
    try:
        held = subprocess.Popen(place.inside([PROGRAM, "hold", str(orders)]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        held.stdout.readline()
        own, kernel = place.sums(), place.kernel_bytes()
        held.communicate()
    finally:
        place.remove()
    return own["rss"], kernel, own["files"]


def busy():
    """CPU of a sampler of 100 orders with two busy processes beside it: caches are cold at each tick."""
    place = Place("hufu-bench-busy")
    burners = [subprocess.Popen(["nice", "-n", "5", "sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        subprocess.run(place.inside([PROGRAM, "run", "100", str(SECONDS)]), check=True)
        return place.cpu_ns() / (SECONDS * 1e9)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
        place.remove()


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
PROGRAM = example()
over = []
with tempfile.TemporaryDirectory(prefix="hufu-bench-") as folder:
    FOLDER = pathlib.Path(folder)
    subprocess.run(["gcc", "-O2", "-o", FOLDER / "pread", ROOT / "benches" / "pread.c"], check=True)
    sampling("make", max(COUNTS))
    try:
        print("| orders | files an order | round / C loop | bar | us an order |")
        print("|---|---|---|---|---|")
        _, files = order_files(1)
        for orders in COUNTS:
            own, loop, times = ratio(orders)
            bar = FILES_BAR if orders <= 256 else OPENED_BAR
            over += [f"{orders} orders: {times:.2f}"] if times > bar else []
            print(f"| {orders:,} | {files} | {times:.2f} | {bar} | {own / orders / 1000:.2f} |", flush=True)
        print("\n| orders | resident, KiB | kernel, KiB | open files | kernel per order, KiB | resident per order, KiB |")
        print("|---|---|---|---|---|---|")
        rss0, kernel0, _ = memory(0)
        for orders in (0, *COUNTS):
            rss, kernel, files = memory(orders)
            per = max(orders, 1)
            print(f"| {orders:,} | {rss // 1024:,} | {kernel // 1024:,} | {files:,} "
                  f"| {max(kernel - kernel0, 0) / per / 1024:.1f} | {max(rss - rss0, 0) / per / 1024:.1f} |", flush=True)
        share = busy()
        over += [f"busy node: {share:.2%}"] if share > CORE_BAR else []
        print(f"\n100 orders at 1 s on a busy node: {share:.2%} of one core over {SECONDS} s (bar {CORE_BAR:.0%})")
    finally:
        sampling("remove", max(COUNTS))
print("over the bar: " + "; ".join(over) if over else "all within their bars")
sys.exit(1 if over else 0)
