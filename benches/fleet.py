#!/usr/bin/env python3
"""A fleet of agents against a clustered broker, one node of which is killed: every bill at the platform, once.

usage: benches/fleet.py [NODES [TERM_S]]        200 nodes, 60 s; HUFU_BIN_DIR names the programs. Root, nats-server, PostgreSQL, ip.

Real programs: three nats-server with JetStream and an MQTT listener, state in three copies; the platform on PostgreSQL; so many
agents, one order each, which pays for what it holds. All of it lives in a network namespace of its own, where `broker` is the
name of all three. In the middle of the term one broker is killed and stays away until the bills are there.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from house import program, run, tool, until

PRODUCT = """
[metrics]
listen = ""
[metering]
sample_ms = 1000
window_s = 10
[demand]
every_s = 0
[provision]
place = "{place}"
[[product]]
id = "small"
name = "a hundredth of a core, held"
cpu_millicores = 10
memory_bytes = 1048576
[[product.tariff.price]]
resource = "reserved_cpu"
price = "3600"
"""
NATS = """
server_name: n{number}
listen: "127.0.0.1{number}:4222"
jetstream {{ store_dir: "{folder}/nats-{number}", max_memory_store: 256MB, max_file_store: 2GB }}
cluster {{ name: fleet, listen: "127.0.0.1{number}:6222", routes: [{routes}] }}
mqtt {{ host: "127.0.0.1{number}", port: 1883, stream_replicas: 3, max_ack_pending: 1000 }}
"""
QUERY = """SELECT (SELECT COUNT(*) FROM bills), (SELECT COUNT(DISTINCT contract) FROM bills),
 (SELECT COUNT(*) FROM bills WHERE state = 'payable' AND total <> '0.00'), (SELECT COUNT(*) FROM forks),
 (SELECT COUNT(*) FROM entries WHERE refused IS NOT NULL)"""


class Fleet:
    """Everything ends with the `with` block."""

    def __init__(self, nodes):
        self.nodes = [f"n{number:03}" for number in range(1, nodes + 1)]
        self.space = f"hufu-fleet-{os.getpid()}"
        self.processes = []

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="hufu-fleet-")
        self.at = pathlib.Path(self.folder.name)
        self.at.chmod(0o755)
        self.hosts = pathlib.Path("/etc/netns") / self.space
        try:
            self.open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def open(self):
        ip = tool("ip")
        subprocess.run([ip, "netns", "add", self.space], check=True)
        subprocess.run([ip, "-n", self.space, "link", "set", "lo", "up"], check=True)
        self.hosts.mkdir(parents=True)
        lines = ["127.0.0.1 localhost"] + [f"127.0.0.1{number} broker" for number in (1, 2, 3)]
        (self.hosts / "hosts").write_text("\n".join(lines) + "\n")
        self.brokers = {number: self.broker(number) for number in (1, 2, 3)}
        self.database = self.postgres()
        self.parties()
        self.platform = self.start("platform", [
            program("hufu-platform"), "serve", "--dir", "platform", "--site", "s1", "--key", "platform.key", "--cert",
            "platform.pem", "--trust", "root.pem", "--listen", "127.0.0.1:8480", "--broker", "broker:1883", "--database",
            self.database])
        until("the platform", lambda: (self.at / "platform" / "platform.json").exists())

    def inside(self, command):
        return [tool("ip"), "netns", "exec", self.space, *command]

    def start(self, name, command, inside=True, **more):
        with open(self.at / f"{name}.log", "ab") as log:
            process = subprocess.Popen(self.inside(command) if inside else command, cwd=self.at, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, **more)
        self.processes.append(process)
        return process

    def broker(self, number):
        routes = ", ".join(f'"nats-route://127.0.0.1{other}:6222"' for other in (1, 2, 3) if other != number)
        config = self.at / f"nats-{number}.conf"
        config.write_text(NATS.format(number=number, folder=self.at, routes=routes))
        return self.start(f"nats-{number}", [tool("nats-server"), "-c", str(config)])

    def postgres(self):
        """A cluster of this run's own, on a socket in the folder; PostgreSQL refuses to run as root."""
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        folder = found[-1].parent if found else pathlib.Path(tool("initdb")).parent
        data = self.at / "postgres"
        data.mkdir()
        owner = "postgres" if subprocess.run(["id", "postgres"], capture_output=True).returncode == 0 else "nobody"
        subprocess.run(["chown", owner, data], check=True)
        as_owner = ["setpriv", f"--reuid={owner}", f"--regid={'postgres' if owner == 'postgres' else 'nogroup'}", "--clear-groups"]
        subprocess.run([*as_owner, folder / "initdb", "-D", data / "data", "-U", "hufu", "--auth=trust", "--no-sync"],
                       check=True, capture_output=True, cwd="/")
        self.start("postgres", [*as_owner, str(folder / "postgres"), "-D", str(data / "data"), "-k", str(data), "-c",
                                "listen_addresses=127.0.0.1", "-c", "port=5432"])
        self.psql = [*self.inside([tool("psql")]), "-h", str(data), "-U", "hufu", "-At", "-F", " "]
        until("PostgreSQL", lambda: subprocess.run([*self.psql, "-d", "postgres", "-c", "CREATE DATABASE fleet"],
                                                   capture_output=True).returncode == 0)
        return "postgresql://hufu@127.0.0.1:5432/fleet"

    def count(self):
        done = subprocess.run([*self.psql, "-d", "fleet", "-c", QUERY.replace("\n", " ")], capture_output=True, text=True)
        names = ("bills", "contracts", "payable", "forks", "refused")
        return dict(zip(names, map(int, done.stdout.split()))) if done.returncode == 0 else dict.fromkeys(names, 0)

    def parties(self):
        self.hufu("key", "new", "--out", "root.key")
        self.hufu("pki", "root", "--key", "root.key", "--subject", "CN=fleet-root,C=CN", "--out", "root.pem")
        for name, subject in (("platform", "CN=s1/platform"), ("buyer", "CN=buyer-1")):
            self.hufu("key", "new", "--out", f"{name}.key")
            self.hufu("key", "csr", "--key", f"{name}.key", "--subject", subject, "--out", f"{name}.csr")
            self.issue(f"{name}.csr", f"{name}.pem")

    def issue(self, csr, out):
        self.hufu("pki", "issue", "--ca", "root.pem", "--ca-key", "root.key", "--csr", csr, "--out", out)

    def hufu(self, *arguments, statuses=(0,)):
        return run("hufu", *arguments, cwd=self.at, statuses=statuses)

    def enrol(self, node):
        named = ("--site", "s1", "--node", node, "--broker", "broker:1883", "--trust", "root.pem")
        self.hufu("init", "--dir", node, *named, "--platform-cert", "platform.pem")
        self.issue(f"{node}/node.csr", f"{node}.pem")
        self.hufu("init", "--dir", node, "--cert", f"{node}.pem")
        with open(self.at / node / "hufu.toml", "a") as config:
            config.write(PRODUCT.format(place=self.space))
        self.start(node, [program("hufu"), "agent", "--config", f"{node}/hufu.toml"])

    def buyer(self, *arguments):
        command = self.inside([program("hufu"), "--json", "buyer", *arguments])
        return subprocess.run(command, cwd=self.at, capture_output=True, text=True)

    def order(self, node, term_s):
        who = ("--platform", "http://127.0.0.1:8480", "--key", "buyer.key", "--cert", "buyer.pem", "--trust", "root.pem",
               "--state", f"contract-{node}")
        def answered(*arguments):
            done = self.buyer(*arguments)
            if done.returncode not in (0, 1, 69):
                raise SystemExit(f"{node}: {arguments[0]}: {done.returncode}\n{done.stderr}")
            return done.returncode == 0
        until(f"an offer of {node}", lambda: answered("browse", *who, "--node", f"s1/{node}", "--product", "small"), 600)
        until(f"a deal with {node}", lambda: answered("order", *who, "--term", f"{term_s}s", "--ceiling", "1000"), 600)

    def kill(self, number):
        """kill -9 of a broker: what runs in the namespace is the child of nobody but us."""
        self.brokers[number].send_signal(signal.SIGKILL)
        self.brokers[number].wait(30)

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        subprocess.run([tool("ip"), "netns", "del", self.space])
        if self.hosts.exists():
            (self.hosts / "hosts").unlink(missing_ok=True)
            self.hosts.rmdir()
        for folder in pathlib.Path("/sys/fs/cgroup").glob(f"**/{self.space}"):
            for order in folder.iterdir():
                if order.is_dir():
                    order.rmdir()
            folder.rmdir()
        self.folder.cleanup()


def memory(processes):
    """Resident KiB of the agents, largest and sum."""
    sizes = []
    for process in processes:
        lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
        sizes += [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return max(sizes), sum(sizes)


def main():
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    term_s = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    began = time.monotonic()
    with Fleet(nodes) as fleet:
        with concurrent.futures.ThreadPoolExecutor(4) as several:
            list(several.map(fleet.enrol, fleet.nodes))
            print(f"{nodes} agents run after {time.monotonic() - began:.0f} s", flush=True)
            list(several.map(lambda node: fleet.order(node, term_s), fleet.nodes))
        print(f"{nodes} orders after {time.monotonic() - began:.0f} s; broker 1 is killed", flush=True)
        fleet.kill(1)
        end = time.monotonic() + term_s + 900
        found = fleet.count()
        while found["bills"] < nodes and time.monotonic() < end:
            time.sleep(2)
            found = fleet.count()
        agents = [process for process in fleet.processes if process.args[-1].endswith("hufu.toml")]
        largest, _ = memory(agents)
        gone = [process.args[-1] for process in agents if process.poll() is not None]
        held = collections.Counter(found)
        result = {"nodes": nodes, **held, "largest_agent_kib": largest, "agents_that_ended": len(gone),
                  "seconds": round(time.monotonic() - began)}
        print(json.dumps(result), flush=True)
        wrong = found["bills"] != nodes or found["contracts"] != nodes or found["payable"] != nodes
        return 1 if wrong or found["forks"] or found["refused"] or gone else 0


if __name__ == "__main__":
    sys.exit(main())
