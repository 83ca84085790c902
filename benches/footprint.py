#!/usr/bin/env python3
"""What the agent costs its machine beside Debian's own monitors: prometheus-node-exporter, systemd-cgtop and collectd.

All run in one window, each in a cgroup of its own: the agent with ORDERS orders sampled each second and its link to a
mosquitto, the exporter scraped each second, cgtop and collectd at 1 s. Printed are memory, kernel memory, CPU, threads and
open files, as medians of the rounds, and the bars: the status is 1 when one is missed. `--flat MINUTES` watches the agent's
memory instead, with windows and samples that are sixty and ten times as short."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

from house import ROOT, House, free_port, median, program, tool, until
from place import Place

MIB = 2**20
HUFU, EXPORTER, CGTOP, COLLECTD = "hufu", "prometheus-node-exporter", "systemd-cgtop", "collectd"
COLLECTD_CONF = """
Hostname "bench"
FQDNLookup false
Interval 1
BaseDir "{at}"
PIDFile "{at}/pid"
PluginDir "{lib}/lib/collectd"
TypesDB "{lib}/share/collectd/types.db"
LoadPlugin cgroups
LoadPlugin cpu
LoadPlugin memory
LoadPlugin disk
LoadPlugin df
LoadPlugin interface
LoadPlugin load
LoadPlugin csv
<Plugin csv>
  DataDir "{at}/csv"
</Plugin>
"""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seconds", type=int, default=300, help="length of a window")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--warm", type=int, default=30, help="seconds before a window, in which everything runs already")
parser.add_argument("--orders", type=int, default=10)
parser.add_argument("--smoke", action="store_true", help="one round of 20 s, warmed 3 s")
parser.add_argument("--flat", type=int, metavar="MINUTES", help="the agent's memory minute by minute, nothing else")
options = parser.parse_args()
if options.smoke:
    options.seconds, options.rounds, options.warm = 20, 1, 3


def main():
    if options.flat:
        return flat()
    collectd_at = unpacked_collectd()
    rounds = []
    for number in range(options.rounds):
        rounds.append(window(collectd_at))
        print(f"round {number + 1} of {options.rounds}: " + ", ".join(
            f"{name} {book['rss'] / MIB:.2f} MiB {book['cpu']:.3f} s/min" for name, book in rounds[-1].items()), flush=True)
    return show(rounds)


def unpacked_collectd():
    """Debian's collectd-core, unpacked below target/: as an installed package it would run as a service too."""
    at = ROOT / "target" / "peers"
    if not (at / "usr/sbin/collectd").exists():
        at.mkdir(parents=True, exist_ok=True)
        get = subprocess.run(["apt-get", "download", "-qq", "collectd-core"], cwd=at, capture_output=True, text=True)
        found = list(at.glob("collectd-core_*.deb"))
        if not found:
            raise SystemExit(f"collectd-core cannot be had, after apt-get update perhaps:\n{get.stderr}")
        subprocess.run(["dpkg", "-x", found[0], at], check=True)
    return at / "usr"


def window(collectd_at):
    """One round: everything started anew, warmed, and weighed at the same time."""
    places, peers, mark = {}, [], f"hufu-footprint-{os.getpid()}"
    orders = Place(f"{mark}-orders")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"127.0.0.1:{free_port()}"
    try:
        for name in (HUFU, EXPORTER, CGTOP, COLLECTD):
            places[name] = Place(f"{mark}-{name}")
        with (tempfile.TemporaryDirectory(prefix="hufu-peers-") as folder,
              House(mosquitto=True, inside=served(places[HUFU]), outside=orders.procs_files()) as house):
            conf = pathlib.Path(folder) / "collectd.conf"
            conf.write_text(COLLECTD_CONF.format(at=folder, lib=collectd_at))
            try:
                serve(house)
                for name, command in ((EXPORTER, [tool(EXPORTER), f"--web.listen-address={address}"]),
                                      (CGTOP, [tool(CGTOP), "--batch", "--delay=1", "--iterations=0"]),
                                      (COLLECTD, [str(collectd_at / "sbin/collectd"), "-f", "-C", str(conf)])):
                    peers.append(subprocess.Popen(places[name].inside(command), **quiet))
                until("the exporter", lambda: scrape(address))
                until("collectd's first values", lambda: list(conf.parent.glob("csv/bench/cgroups-*/*")))
                each_second(options.warm, lambda _: scrape(address))
                judge(house, places, peers)
                found = weigh(places, address)
                judge(house, places, peers)
                return found
            finally:
                for peer in peers:
                    peer.terminate()
                    peer.wait(30)
    finally:
        for place in (*places.values(), orders):
            place.remove()


def served(place):
    """As its unit starts it: the unit's environment is part of what is weighed."""
    unit = (ROOT / "systemd" / "hufu.service").read_text().splitlines()
    environment = [word for line in unit if line.startswith("Environment=") for word in line.split("=", 1)[1].split()]
    return lambda command: place.inside(["env", *environment, *command])


def serve(house):
    for number in range(options.orders):
        house.order(number, "24h")
    serving = lambda: sum(c["service"] == "running" for c in house.status()["contracts"]) == options.orders
    until("all orders metered", serving)


def judge(house, places, peers):
    """A peer that died or an agent that lost its link weighs nothing worth knowing."""
    if not house.status()["linked"]:
        raise SystemExit("the agent lost its link")
    if any(peer.poll() is not None for peer in peers):
        raise SystemExit(f"a peer has ended: {[peer.args for peer in peers if peer.poll() is not None]}")
    if places[HUFU].pids() != [house.agent.pid]:
        raise SystemExit(f"other processes are in the agent's cgroup: {places[HUFU].pids()}")


def scrape(address):
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            return len(answer.read())
    except OSError:
        return 0


def each_second(seconds, work):
    start = time.monotonic()
    for number in range(seconds):
        time.sleep(max(0.0, start + number - time.monotonic()))
        work(number)
    time.sleep(max(0.0, start + seconds - time.monotonic()))


def weigh(places, address):
    """The books of all programs over the same seconds: CPU in s/min, the rest as the median of a look each five seconds."""
    looks = {name: [] for name in places}

    def second(number):
        scrape(address)
        if number % 5 == 4:
            for name, place in places.items():
                looks[name].append(place.sums() | {"kernel": place.kernel_bytes()})

    before, start = {name: place.cpu_ns() for name, place in places.items()}, time.monotonic()
    each_second(options.seconds, second)
    after, took_s = {name: place.cpu_ns() for name, place in places.items()}, time.monotonic() - start
    books = {}
    for name, place in places.items():
        book = {key: median([look[key] for look in looks[name]]) for key in looks[name][0]}
        book["both"] = median([look["rss"] + look["kernel"] for look in looks[name]])
        book["cpu"] = (after[name] - before[name]) / 1e9 / took_s * 60
        book["threads"] = place.threads()
        books[name] = book
    return books


def show(rounds):
    """Prints medians, ratios and bars; the status of the program."""
    print(f"\n{options.orders} orders at 1 s, link to mosquitto; windows of {options.seconds} s, medians of {options.rounds}")
    print(f"{'':26}{'RSS MiB':>9}{'PSS MiB':>9}{'kernel MiB':>12}{'RSS+kernel':>12}{'CPU s/min':>11}{'threads':>9}{'files':>7}")
    middle = lambda name, key: median([books[name][key] for books in rounds])
    for name in rounds[0]:
        threads = max(len(books[name]["threads"]) for books in rounds)
        print(f"{name:26}{middle(name, 'rss') / MIB:9.2f}{middle(name, 'pss') / MIB:9.2f}{middle(name, 'kernel') / MIB:12.2f}"
              f"{middle(name, 'both') / MIB:12.2f}{middle(name, 'cpu'):11.3f}{threads:9d}{middle(name, 'files'):7.0f}")
    # Of one window each, because both sides of a ratio had the same machine.
    ratio = lambda name, key: median([books[HUFU][key] / books[name][key] for books in rounds])
    for name in (EXPORTER, CGTOP, COLLECTD):
        print(f"{'hufu / ' + name:33}"[:33] + "".join(
            f"{ratio(name, key):{wide}.2f}" for key, wide in (("rss", 5), ("pss", 9), ("kernel", 12), ("both", 12), ("cpu", 11))))
    ours = max((books[HUFU]["threads"] for books in rounds), key=len)
    print(f"threads of hufu: {ours[0]} (its first), and made by us: {', '.join(ours[1:]) or 'none'}")
    print(f"size of hufu: {os.path.getsize(program('hufu')) / MIB:.2f} MiB\n")
    bars = [bar("RSS / node-exporter", ratio(EXPORTER, "rss"), 0.4), bar("CPU / cgtop", ratio(CGTOP, "cpu"), 1.0),
            bar("threads made by us", len(ours) - 1, 4), *package()]
    for name in (CGTOP, COLLECTD):
        less = "below" if ratio(name, "rss") < 1 else "NOT below"
        print(f"hoped for: RSS {less} {name}: {ratio(name, 'rss'):.2f}")
    return 0 if all(bars) else 1


def bar(name, value, limit):
    held = value <= limit
    print(f"{'held' if held else 'MISSED'}: {name}: {value:.3g} (bar: {limit:g})")
    return held


def package():
    made = sorted((ROOT / "target" / "debian").glob("hufu_*.deb"), key=os.path.getmtime)
    if made:
        return [bar(f"package {made[-1].name}, MiB", os.path.getsize(made[-1]) / MIB, 6)]
    print("not weighed: the package, of which target/debian has none; run: make deb")
    return []


def flat():
    """The agent's memory with windows of 1 s and samples each 100 ms, from the second minute on."""
    place, orders = Place(f"hufu-flat-{os.getpid()}"), Place(f"hufu-flat-{os.getpid()}-orders")
    try:
        with House(window_s=1, sample_ms=100, mosquitto=True, inside=served(place), outside=orders.procs_files()) as house:
            serve(house)
            points, start = [], time.monotonic()
            for minute in range(1, options.flat + 1):
                time.sleep(max(0.0, start + minute * 60 - time.monotonic()))
                look = place.sums() | {"kernel": place.kernel_bytes(), "anonymous": place.anonymous()}
                windows, blocks = time.monotonic() - start, int(house.status()["logs"]["trade"]["size"])
                segments = len(list((house.at / "node" / "ledger").glob("seg-*")))
                print(f"minute {minute}: RSS {look['rss'] / 1024:.0f} KiB, of it anonymous {look['anonymous'] / 1024:.0f}, kernel "
                      f"{look['kernel'] / 1024:.0f}, files {look['files']}, {blocks} blocks in {segments} segments", flush=True)
                if minute >= 2:
                    points.append((windows, segments, look))
            judge(house, {HUFU: place}, [])
    finally:
        place.remove()
        orders.remove()
    for key in ("rss", "anonymous", "kernel"):
        slope = least_squares([(x, look[key]) for x, _, look in points])
        # The index of the segment that is written lies in memory and ends with it: the lows of the segments tell growth from that.
        lows = [min(look[key] for _, at, look in points if at == number) for number in sorted({at for _, at, _ in points})]
        print(f"{key}: {slope * 1000 / 1024:+.1f} KiB per 1000 windows of {options.orders} orders; lowest in each segment, KiB: "
              + ", ".join(f"{low / 1024:.0f}" for low in lows))
    return 0


def least_squares(points):
    if len(points) < 2:
        raise SystemExit("a slope needs three minutes and more")
    x_mean, y_mean = (sum(point[i] for point in points) / len(points) for i in (0, 1))
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x, _ in points)


if __name__ == "__main__":
    sys.exit(main())
