#!/usr/bin/env python3
"""Weight of the agent beside Debian's prometheus-node-exporter: size, resident memory, CPU time.

Both run at the same time on this machine: the agent with ORDERS orders at 1 s and its MQTT link, the exporter scraped each
second. CPU is compared slice by slice of the same seconds, and the median ratio is shown."""

import argparse
import os
import shutil
import subprocess
import time
import urllib.request

from house import House, cpu_ns, median, program, rss_bytes, until
from socket import socket

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seconds", type=int, default=300)
parser.add_argument("--orders", type=int, default=10)
parser.add_argument("--slices", type=int, default=10)
options = parser.parse_args()

print(f"size of hufu: {os.path.getsize(program('hufu')) / 2**20:.2f} MiB (bar: 12)")
exporter_path = shutil.which("prometheus-node-exporter")
if not exporter_path:
    raise SystemExit("prometheus-node-exporter is missing; run: scripts/setup prometheus-node-exporter")
with socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
address = f"127.0.0.1:{port}"


def scrape():
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            return len(answer.read())
    except OSError:
        return 0


with House() as house:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    exporter = subprocess.Popen([exporter_path, f"--web.listen-address={address}"], **quiet)
    try:
        until("the exporter", scrape)
        for number in range(options.orders):
            house.order(number, "2h")
        serving = lambda: sum(c["service"] == "running" for c in house.status()["contracts"]) == options.orders
        until("all orders metered", serving)
        ratios, books = [], []
        slice_s = options.seconds / options.slices
        for _ in range(options.slices):
            before = cpu_ns(house.agent.pid), cpu_ns(exporter.pid)
            end = time.monotonic() + slice_s
            while (left := end - time.monotonic()) > 0:
                scrape()
                time.sleep(max(0, min(1, left)))
            used = cpu_ns(house.agent.pid) - before[0], cpu_ns(exporter.pid) - before[1]
            books.append(used)
            ratios.append(used[0] / used[1])
        status = house.status()
        assert status["linked"], "the agent lost its link"
        per_minute = [sum(book[i] for book in books) / 1e9 / options.seconds * 60 for i in (0, 1)]
        memory = rss_bytes(house.agent.pid), rss_bytes(exporter.pid)
        print(f"{options.orders} orders at 1 s, {options.seconds} s in {options.slices} slices")
        print(f"resident: hufu {memory[0] / 2**20:.1f} MiB, exporter {memory[1] / 2**20:.1f} MiB, "
              f"ratio {memory[0] / memory[1]:.2f} (bar: 0.50)")
        print(f"CPU: hufu {per_minute[0]:.3f} s/min, exporter {per_minute[1]:.3f} s/min, "
              f"median ratio {median(ratios):.2f} (bar: 0.50)")
    finally:
        exporter.terminate()
        exporter.wait(10)
