#!/usr/bin/env python3
"""How right the meter is: `hufu meter` over loads that know what they used. `accuracy.py [SECONDS]`: length of the mixed loads, of the
held memory and of the held files (60).

Bars: CPU in a cgroup 0.2 % or 5 ms, whichever is larger; short children and orders of 5 ms lose nothing beyond that; in a process
tree what ended between samples is flagged `estimated`; memory 1 % of the byte-seconds held. Block IO needs a kernel whose io controller is
in version 2: version 1 has no counter that could be trusted, and the meter says so here. Traffic: equal to nft's counters of the same
cgroup on the same hooks, and within 0.1 % (or 600 bytes: ARP) of what the interface carried less its frames' headers. Files: 1 % of the byte-seconds that
du(1) says. Traffic needs root, a network namespace and nft; a row says where it cannot be had."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from house import ROOT, program, run
from traffic import HERE, Net, payload

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
rows, over = [], []


def line(report, resource):
    return next(entry for entry in report["usage"] if entry["resource"] == resource)


def judge(what, source, metered, truth, bar, status):
    difference = metered - truth
    good = abs(difference) <= bar
    rows.append((what, source, f"{difference / max(truth, 1):+.4%}", f"{difference / 1e6:+.2f}", f"{bar / 1e6:.2f}", status))
    if not good:
        over.append(what)


def cpu(what, mode, amount, interval="1s"):
    _, report = run("hufu", "meter", "--interval", interval, "--", str(BURN), mode, str(amount), str(SAID))
    truth, entry = int(SAID.read_text()), line(report, "cpu")
    judge(what, report["source"], int(entry["quantity"]), truth, max(truth * 0.002, 5e6), entry["status"])
    return report


def orders_of_5_ms(count):
    """Each is an order of its own: nothing samples it before it has ended. What is metered above its own account is its exec and
    its exit, so only what is below counts."""
    lost = metered = truth = 0
    for _ in range(count):
        _, report = run("hufu", "meter", "--", str(BURN), "loop", "5", str(SAID))
        own, entry = int(SAID.read_text()), line(report, "cpu")
        lost += max(0, own - int(entry["quantity"]))
        metered, truth = metered + int(entry["quantity"]), truth + own
        source = report["source"]
    bar = max(truth * 0.002, 5e6)
    rows.append((f"{count} orders of 5 ms: lost", source, f"{-lost / truth:+.4%}", f"{-lost / 1e6:+.2f}", f"{bar / 1e6:.2f}", "measured"))
    if lost > bar:
        over.append("orders of 5 ms")


def tree(count):
    """Short children in a process tree: a lower bound, and said to be one."""
    with subprocess.Popen([str(BURN), "children", str(count), str(SAID)]) as child:
        _, report = run("hufu", "meter", "--pid", str(child.pid), "--interval", "100ms")
    truth, entry = int(SAID.read_text()), line(report, "cpu")
    metered = int(entry["quantity"])
    rows.append((f"{count} short children, process tree", report["source"], f"{(metered - truth) / truth:+.4%}",
                 f"{(metered - truth) / 1e6:+.2f}", "flagged", entry["status"]))
    if entry["status"] != "estimated" or metered > truth + 20e6:
        over.append("process tree")


def memory():
    _, report = run("hufu", "meter", "--interval", "500ms", "--", str(BURN), "hold", str(SECONDS * 1000), str(SAID))
    truth, entry = int(SAID.read_text()), line(report, "memory")
    metered = int(entry["quantity"])
    rows.append(("256 MiB held, byte-seconds", report["source"], f"{(metered - truth) / truth:+.4%}", "", "1 %", entry["status"]))
    if abs(metered - truth) > truth * 0.01:
        over.append("memory")


def traffic(what, mode, amount):
    """A load that talks over a veth, by counters of its cgroup, by nft on the same hooks and by the interface."""
    with Net() as net:
        before = net.interface()
        load = payload(net, mode, amount)
        _, report = run("hufu", "meter", "--interval", "1s", "--", *load)
        wire, found = [now - then for now, then in zip(net.interface(), before)], net.nft()
    for index, (resource, hook) in enumerate((("net_tx", "tx"), ("net_rx", "rx"))):
        entry = line(report, resource)
        if entry["quantity"] is None:
            rows.append((f"{what}, {resource}", report["source"], "-", "", "", f"{entry['status']}: {entry.get('reason', '')}"))
            over.append(what)
            continue
        metered, frames = int(entry["quantity"]), wire[index + 2]
        for against, truth, bar in (("nft, same hook", found[hook], 0), ("interface less 14 a frame", wire[index] - 14 * frames, 0.001)):
            difference = metered - truth
            rows.append((f"{what}, {resource} against {against}", f"{metered:,} bytes", f"{difference / max(truth, 1):+.4%}",
                         f"{difference:+,} bytes", f"{bar:.1%}", entry["status"]))
            # The neighbours' ARP, and what the kernel answers for itself, passes the interface too.
            if abs(difference) > max(truth * bar, 600 if bar else 0):
                over.append(f"{what}, {resource} against {against}")


def files(folder):
    """Files held for a while, by a walk (or the project's quota), against du."""
    held = pathlib.Path(folder) / "held"
    for number in range(64):
        (held / str(number % 8)).mkdir(parents=True, exist_ok=True)
        (held / str(number % 8) / str(number)).write_bytes(bytes(1000 + 4093 * number))
    os.link(held / "0" / "0", held / "1" / "another-name")
    os.sync()
    du = int(subprocess.run(["du", "-sx", "-B1", held], check=True, capture_output=True, text=True).stdout.split()[0])
    _, report = run("hufu", "meter", "--interval", "200ms", "--storage", str(held), "--", "sleep", str(SECONDS))
    truth, entry = du * int(report["duration_ns"]) // 10**9, line(report, "storage")
    metered = int(entry["quantity"] or 0)
    rows.append((f"{du:,} bytes of files by du, byte-seconds", "directory or its quota", f"{(metered - truth) / truth:+.4%}", "", "1 %", entry["status"]))
    if abs(metered - truth) > truth * 0.01:
        over.append("files")


program("hufu")
with tempfile.TemporaryDirectory(prefix="hufu-bench-") as folder:
    BURN, SAID = pathlib.Path(folder) / "burn", pathlib.Path(folder) / "said"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", BURN, ROOT / "benches" / "burn.c"], check=True)
    report = cpu(f"{SECONDS} s of mixed load, CPU", "mixed", SECONDS * 1000)
    cpu("500 short children, CPU", "children", 500)
    cpu("two threads, CPU", "threads", 2000)
    orders_of_5_ms(50)
    tree(500)
    memory()
    files(folder)
    if os.geteuid() == 0 and shutil.which("nft") and HERE:
        traffic("10,000,000 bytes over TCP", "once", 10_000_000)
        traffic(f"{SECONDS} s of mixed traffic", "mixed", SECONDS)
    else:
        rows.append(("traffic", "-", "-", "-", "-", "not tried: needs root, nft and cgroup version 2"))
    for resource in ("disk_write", "disk_read"):
        entry = line(report, resource)
        said = entry.get("reason", "")
        rows.append((resource, report["source"], "-", "-", "-", f"{entry['status']}: {said}" if said else entry["status"]))
print("| what | source | metered - truth | ms | bar, ms | status |")
print("|---|---|---|---|---|---|")
for row in rows:
    print("| " + " | ".join(row) + " |")
print("\nover the bar: " + ", ".join(over) if over else "\nall within their bars")
sys.exit(1 if over else 0)
