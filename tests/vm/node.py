"""What a scenario asks of the node in the machine: its status, its order, its workload, what the kernel says it used."""

import json
import time

from machine import VmError

BUYER = ("--platform http://127.0.0.1:8480 --key /opt/t/pki/buyer-1.key --cert /opt/t/pki/buyer-1.pem "
         "--trust /opt/t/pki/root.pem --state /opt/t/contract")
ORDERS = "/sys/fs/cgroup/hufu.slice/hufu-orders.slice"


class Node:
    """The node, the platform beside it, and the one order that is sold."""

    def __init__(self, machine):
        self.vm = machine
        self.pid = self.unit = self.contract = None
        # CPU microseconds that the kernel counted in the boots before this one; cold boots with the order in force.
        self.burnt_us = self.boots = 0
        # Bytes that the order is known to have written to the disk.
        self.written = 0

    def json(self, command, limit=120):
        """The JSON object that a command writes, with its exit status in `exit`."""
        code, text = self.vm.run(command, limit, check=False)
        for line in text.splitlines():
            if line.startswith("{"):
                return json.loads(line) | {"exit": code}
        raise VmError(f"status {code}, no JSON from: {command}\n{text}")

    def status(self):
        return self.json("hufu status --json")

    def wait(self, what, holds, limit=240):
        """Asks for the status until `holds` of it."""
        deadline = time.monotonic() + limit
        last = None
        while time.monotonic() < deadline:
            try:
                last = self.status()
                if holds(last):
                    return last
            except (VmError, json.JSONDecodeError) as error:
                last = error
            time.sleep(1)
        raise VmError(f"waited {limit} s in vain for {what}: {last}")

    def linked(self):
        return self.wait("the link", lambda s: s["linked"])

    def of(self, status):
        return next(c for c in status["contracts"] if c["contract_no"] == self.contract)

    def records(self, status):
        return int(self.of(status)["records"] or 0)

    def used_ns(self, status):
        """CPU time of the order by its newest record."""
        return self.used(status, "cpu")

    def used(self, status, resource):
        """Total of a resource by the order's newest record, base units."""
        return next(int(u["quantity"] or 0) for u in self.of(status)["usage"] or [] if u["resource"] == resource)

    def serving(self, more=2):
        """The order is metered: `more` windows beyond those there are now."""
        now = self.wait("the order", lambda s: any(c["contract_no"] == self.contract for c in s["contracts"]))
        start = self.records(now)
        return self.wait("usage records", lambda s: self.records(s) >= start + more)

    def receipted(self):
        """The platform acknowledged both logs, but for a window that was closed just now."""
        def all_of(status):
            return all(int(log["receipted"] or 0) >= int(log["size"]) - 1 for log in status["logs"].values())
        return self.wait("receipts", all_of)

    def slice(self):
        return f"hufu-orders-{self.contract}.slice"

    def workload(self):
        """The pid of the order's workload, by what the kernel says of its cgroup."""
        return self.vm.run(f"cat {ORDERS}/{self.slice()}/{self.unit}.service/cgroup.procs").split()

    def same_workload(self, when):
        """The workload is the process it was: nothing that happened to the agent ended it."""
        now = self.workload()
        if now != self.pid:
            raise VmError(f"{when}: the workload was {self.pid} and is {now}")

    def watch(self):
        """Notes the workload's pid, and has the kernel's counter of its slice kept."""
        self.pid = self.workload()
        if not self.pid:
            raise VmError("no workload in the order's slice")
        self.vm.run(f"systemd-run --quiet --unit=truth perl /opt/t/truth.pl {self.slice()}")

    def truth_us(self):
        """CPU microseconds that the kernel counted in this boot."""
        return int(self.vm.run("cat /run/truth"))

    def cold_boot(self, clock=None):
        """Cuts the power and boots. What was sealed before must be there after."""
        before = self.status()
        self.burnt_us += self.truth_us()
        self.boots += 1
        self.vm.cut()
        self.vm.boot(clock=clock)
        return before
