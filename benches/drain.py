#!/usr/bin/env python3
"""How fast a node's backlog drains after an outage of its platform, against mosquitto_pub over the same broker in the same run.

usage: benches/drain.py [WINDOWS [BILLS]]         1440 windows and 24 bills, as a day of minutes has; each window is a second here,
                                                  so that the outage lasts WINDOWS seconds. HUFU_BIN_DIR names the programs.

Real programs: mosquitto, the platform on SQLite, one node with BILLS orders: one lasts all the time, the others end in its first
minute. The platform is killed once all are sold and comes back when all are billed. Drained is the backlog when its last block has
a receipt: every signature verified, every bill recomputed, everything stored. The reference publishes as many messages of the blocks'
mean size with QoS 1 to a subscriber that does nothing with them, the programs' start included. `pure_s` is what so many need of
20,000 in a row: what the broker does alone. Bars: 0.5 of the reference's rate; the agent's memory grows by less than 4 MiB.
"""

import contextlib
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import time

from house import House, tool, until

RATE_BAR, GROWTH_BAR_KIB = 0.5, 4096
SHORT_S = 40
MANY = 20_000


def memory_of(process):
    """Resident memory, KiB: all of it, and what is no file."""
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return [int(next(line.split()[1] for line in lines if line.startswith(name))) for name in ("VmRSS:", "RssAnon:")]


def logs(house):
    return house.status()["logs"]


def is_receipted(house, until_then):
    """Whether receipts cover both logs as they were `until_then`; a receipt is an entry itself, so they go on growing."""
    now = logs(house)
    return all(int(now[log]["receipted"] or 0) >= int(until_then[log]["size"]) for log in now)


def wait_for_receipts(house, until_then):
    """The same, asked of the platform's database: asking the node takes a process each time."""
    with contextlib.closing(sqlite3.connect(f"file:{house.at}/platform/platform.db?mode=ro", uri=True)) as db:
        end = time.monotonic() + 600
        while time.monotonic() < end:
            given = dict(db.execute("SELECT log, MAX(size) FROM receipts GROUP BY log"))
            if all(given.get(log, 0) >= int(until_then[name]["size"]) for log, name in enumerate(("trade", "finance"))):
                return
            time.sleep(0.005)
        raise SystemExit(f"not drained after 600 s: {given}")


def wait_for_link(platform):
    """Until a platform that was just started says that it hears the broker."""
    end = time.monotonic() + 60
    while "broker link up" not in platform.log.read_text(errors="replace"):
        if time.monotonic() > end:
            raise SystemExit("the platform does not reach the broker")
        time.sleep(0.002)


def mosquitto_pub(house, port, count, size):
    """Seconds for `count` messages of `size` octets, published with QoS 1 and delivered; the best of three."""
    where = ["-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", "bench/drain"]
    lines = house.at / "lines"
    lines.write_text(("x" * size + "\n") * count)
    taken = []
    for _ in range(3):
        heard = subprocess.Popen([tool("mosquitto_sub"), *where, "-C", str(count)], stdout=subprocess.DEVNULL)
        time.sleep(1)
        begun = time.monotonic()
        with open(lines, "rb") as text:
            subprocess.run([tool("mosquitto_pub"), *where, "-l"], stdin=text, check=True)
        if heard.wait(120):
            raise SystemExit("mosquitto_sub failed")
        taken.append(time.monotonic() - begun)
    return min(taken)


def main():
    windows = int(sys.argv[1]) if len(sys.argv) > 1 else 1440
    bills = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    # As the agent's unit has it.
    os.environ.update(MALLOC_ARENA_MAX="1", MALLOC_TRIM_THRESHOLD_="65536", MALLOC_TOP_PAD_="16384")
    with House(window_s=1, sample_ms=500, mosquitto=True) as house:
        for number in range(bills):
            house.order(number, f"{windows if number == 0 else SHORT_S}s")
        sold = logs(house)
        until("all receipts", lambda: is_receipted(house, sold))
        house.platform.kill()
        house.platform.wait(30)
        before, memory = logs(house), memory_of(house.agent)
        until("all bills", lambda: all(c["state"] == "billed" for c in house.status()["contracts"]), windows + 120)
        after, away = logs(house), memory_of(house.agent)
        blocks = sum(int(after[log]["size"]) - int(before[log]["receipted"] or 0) for log in after)
        house.platform = house.start(*house.platform.args)
        wait_for_link(house.platform)
        begun = time.monotonic()
        wait_for_receipts(house, after)
        drained = time.monotonic() - begun
        until("the receipts at the node", lambda: is_receipted(house, after))
        house.hufu("ledger", "export", "node/ledger", "--out", "exported")
        sizes = [path.stat().st_size for path in (house.at / "exported" / "blocks").iterdir()]
        size = sum(sizes) // len(sizes)
        port = house.ready["broker"].rsplit(":", 1)[1]
        reference = mosquitto_pub(house, port, blocks, size)
        one, many = (mosquitto_pub(house, port, number, size) for number in (1, MANY))
        ratio = reference / drained
        grown, anonymous = (max(column) - before for before, *column in zip(memory, away, memory_of(house.agent)))
        result = {"windows": windows, "bills": bills, "blocks": blocks, "mean_block_bytes": size, "drain_s": round(drained, 2),
                  "mosquitto_pub_s": round(reference, 2), "pure_s": round((many - one) * blocks / (MANY - 1), 3),
                  "ratio": round(ratio, 3), "agent_grew_kib": grown,
                  "agent_anonymous_kib": anonymous}
        print(json.dumps(result), flush=True)
        return 0 if ratio >= RATE_BAR and grown < GROWTH_BAR_KIB else 1


if __name__ == "__main__":
    sys.exit(main())
