#!/usr/bin/env python3
"""A fleet of agents against a clustered broker, one node of which is killed: every bill at the platform, once.

usage: benches/fleet.py [NODES [TERM_S]] [--mosquitto]    200 nodes, 60 s; HUFU_BIN_DIR names the programs. Root, nats-server, PostgreSQL, ip.

Real programs: three nats-server in a network namespace (scripts/with-nats), the platform on PostgreSQL (scripts/with-postgres), so many
agents, one order each, which pays for what it holds. When half of the orders are placed, the broker that has all the links is killed
and stays away until the bills are there. They are counted in PostgreSQL, by its own client. With --mosquitto there is one broker, which is
killed, forgets everything and is back after three seconds.
"""

import concurrent.futures
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

from house import ROOT, Parties, free_port, listens, remove_cgroup, tool, until

PLACE = f"hufu-fleet-{os.getpid()}"
CONFIG = f"""
[metrics]
listen = ""
[metering]
sample_ms = 1000
window_s = 10
[demand]
every_s = 0
[provision]
place = "{PLACE}"
[[product]]
id = "small"
name = "a hundredth of a core, held"
cpu_millicores = 10
memory_bytes = 1048576
[[product.tariff.price]]
resource = "reserved_cpu"
price = "3600"
"""
COUNTED = {
    "bills": "bills",
    "contracts": "(SELECT DISTINCT contract FROM bills) c",
    "payable": "bills WHERE state = 'payable' AND total <> '0.00'",
    "forks": "forks",
    "refused": "entries WHERE refused IS NOT NULL",
}
# As scripts/with-nats has them.
MONITORS = [f"http://127.0.0.1{number}:8222" for number in (1, 2, 3)]
UP = "broker link up"
MOSQUITTO = "--mosquitto" in sys.argv


class Fleet(Parties):
    """The platform and the agents."""

    def open(self):
        self.broker = Mosquitto(self) if MOSQUITTO else Cluster()
        self.serve("--broker", self.broker.address, "--database", os.environ["HUFU_TEST_POSTGRES"])
        self.agents = {}

    def enrol(self, name):
        self.agents[name] = self.node(name, name, self.broker.address, CONFIG)

    def count(self):
        query = ", ".join(f"(SELECT COUNT(*) FROM {what})" for what in COUNTED.values())
        done = subprocess.run([tool("psql"), os.environ["HUFU_TEST_POSTGRES"], "-AtF", " ", "-c", f"SELECT {query}"],
                              capture_output=True, text=True, check=True)
        return dict(zip(COUNTED, map(int, done.stdout.split())))

    def links(self, name):
        """How often it said that its link is up."""
        return self.agents[name].log.read_text(errors="replace").count(UP)

    def clean(self):
        for folder in pathlib.Path("/sys/fs/cgroup").glob(f"**/{PLACE}"):
            for order in folder.iterdir():
                if order.is_dir():
                    remove_cgroup(order)
            remove_cgroup(folder)


def resident_kib(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


class Cluster:
    """Three nats-server; what the last of them says of itself."""

    def __init__(self):
        self.address = os.environ["HUFU_TEST_BROKER"]

    def lose(self):
        os.kill(int(os.environ["HUFU_TEST_BROKER_PID"]), signal.SIGKILL)

    def says(self):
        def ask(what):
            with urllib.request.urlopen(f"{MONITORS[-1]}/{what}") as answer:
                return json.load(answer)

        return {"broker_kib": ask("varz")["mem"] // 1024, "broker_consumers": ask("jsz")["consumers"]}


class Mosquitto:
    """One mosquitto without a memory."""

    def __init__(self, house):
        self.house, self.port = house, free_port()
        self.address = f"127.0.0.1:{self.port}"
        (house.at / "mosquitto.conf").write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        self.begin()

    def begin(self):
        self.process = self.house.start(tool("mosquitto"), "-c", "mosquitto.conf")
        until("mosquitto", lambda: listens(self.port))

    def lose(self):
        self.process.kill()
        self.process.wait()
        time.sleep(3)
        self.begin()

    def says(self):
        return {"broker_kib": resident_kib(self.process)}


def main():
    numbers = [int(word) for word in sys.argv[1:] if word != "--mosquitto"]
    nodes, term_s = (numbers + [200, 60][len(numbers):])[:2]
    names = [f"n{number:03}" for number in range(1, nodes + 1)]
    began = time.monotonic()

    def say(what):
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    with Fleet() as fleet, concurrent.futures.ThreadPoolExecutor(4) as several:
        list(several.map(fleet.enrol, names))
        say(f"{nodes} agents run")
        order = lambda name: fleet.buy(name, name, f"{term_s}s", 600)
        list(several.map(order, names[: nodes // 2]))
        linked = {name: fleet.links(name) for name in names}
        say(f"{nodes // 2} orders are placed; the broker is killed")
        fleet.broker.lose()
        killed, again = time.monotonic(), {}
        rest = [several.submit(order, name) for name in names[nodes // 2 :]]
        end = killed + term_s + 900
        while True:
            found = fleet.count()
            for name in names:
                if name not in again and fleet.links(name) > linked[name]:
                    again[name] = round(time.monotonic() - killed, 1)
            is_done = all(one.done() for one in rest) and found["bills"] >= nodes
            if is_done or time.monotonic() > end:
                break
            time.sleep(1)
        [one.result() for one in rest]
        say("the bills are there" if is_done else "not all bills came")
        gone = sum(process.poll() is not None for process in fleet.agents.values())
        result = {
            "nodes": nodes, **found, "agents_that_ended": gone, "linked_again": len(again),
            "linked_again_s": [f(again.values()) for f in (min, statistics.median, max)] if again else None,
            "largest_agent_kib": max(map(resident_kib, fleet.agents.values())), "platform_kib": resident_kib(fleet.platform),
            **fleet.broker.says(), "seconds": round(time.monotonic() - began),
        }
        print(json.dumps(result), flush=True)
        right = {"bills": nodes, "contracts": nodes, "payable": nodes, "forks": 0, "refused": 0, "agents_that_ended": 0}
        return 0 if {name: result[name] for name in right} == right else 1


if __name__ == "__main__":
    if "HUFU_TEST_POSTGRES" not in os.environ:
        scripts = ("with-postgres",) if MOSQUITTO else ("with-nats", "with-postgres")
        around = [str(ROOT / "scripts" / script) for script in scripts]
        os.execv(around[0], [*around, sys.executable, *sys.argv])
    sys.exit(main())
