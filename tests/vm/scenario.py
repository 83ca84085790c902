#!/usr/bin/env python3
"""A node's life on a real machine: installed, set up, one order sold and metered in a real slice, and everything that
happens to servers. Judged at the end: one bill, right to the workload's own counter, a clean ledger, the same at the platform.

usage: scenario.py IMAGE PAYLOAD WORK [--short]

--short does what fits one boot; without it, power cuts, clocks, suspend, full disk, an old ledger put back, removal.
"""

import json
import sys
import time

from machine import Machine, VmError

BUYER = ("--platform http://127.0.0.1:8480 --key /opt/t/pki/buyer-1.key --cert /opt/t/pki/buyer-1.pem "
         "--trust /opt/t/pki/root.pem --state /opt/t/contract")


class Node:
    """What the scenario asks of the machine."""

    def __init__(self, machine):
        self.vm = machine
        self.pid = self.unit = self.contract = None

    def json(self, command, limit=120):
        code, text = self.vm.run(command, limit, check=False)
        for line in text.splitlines():
            if line.startswith("{"):
                return json.loads(line)
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
        log = self.vm.run("journalctl -u hufu -u 'hufu-provision@*' -u hufu-platform -n 40 --no-pager", check=False)[1]
        raise VmError(f"waited {limit} s in vain for {what}: {last}\n{log}")

    def linked(self):
        return self.wait("the link", lambda s: s["linked"])

    def of(self, status):
        return next(c for c in status["contracts"] if c["contract_no"] == self.contract)

    def records(self, status):
        return int(self.of(status)["records"] or 0)

    def serving(self, more=2):
        """The order is metered: `more` windows beyond those there are now."""
        now = self.wait("the order", lambda s: any(c["contract_no"] == self.contract for c in s["contracts"]))
        start = self.records(now)
        return self.wait("usage records", lambda s: self.records(s) >= start + more)

    def receipted(self):
        def all_of(status):
            return all(log["receipted"] is not None and int(log["receipted"]) >= int(log["size"]) - 1
                       for log in status["logs"].values())
        return self.wait("receipts", all_of)

    def workload(self):
        """The pid of the order's workload, by what the kernel says of its cgroup."""
        return self.vm.run(f"cat /sys/fs/cgroup/hufu.slice/hufu-orders.slice/hufu-orders-{self.contract}.slice/{self.unit}.service/cgroup.procs").split()

    def same_workload(self, when):
        now = self.workload()
        if now != self.pid:
            raise VmError(f"{when}: the workload was {self.pid} and is {now}")


def step(name):
    def wrap(function):
        def run(node):
            start = time.monotonic()
            function(node)
            print(f"vm: {name}: {time.monotonic() - start:.0f} s", flush=True)
        run.title = name
        return run
    return wrap


@step("packages installed, node set up, service started")
def install(node):
    node.vm.run("mkdir -p /opt/t && tar -xf /dev/vdb -C /opt/t && chmod +x /opt/t/*.sh && mount -t tmpfs none /mnt", 120)
    print(node.vm.run("/opt/t/setup.sh", 600).strip())
    node.linked()
    node.vm.run("test \"$(ps -o user= -p $(systemctl show -P MainPID hufu))\" = hufu")
    began = node.json("journalctl -u hufu -n 1 -o json --output-fields=HUFU_NODE MESSAGE='agent running'")
    if began.get("HUFU_NODE") != "s1/n1":
        raise VmError(f"no fields in the journal: {began}")
    node.vm.run("bash -c 'exec 3<>/dev/tcp/127.0.0.1/29470; printf \"GET /metrics HTTP/1.0\\r\\n\\r\\n\" >&3; grep -q ^hufu_mqtt_connected <&3'")
    # What depends on the size of this machine is left to it.
    checks = {check["id"]: check for check in node.json("hufu doctor --json")["checks"]}
    for name in ["node_key", "certificate", "ledger", "ledger_owner", "filesystem", "disk_sync", "random", "signatures",
                 "cgroups", "provision_helper", "broker", "agent", "memory_limit", "open_files"]:
        if checks[name]["state"] != "ok":
            raise VmError(f"hufu doctor: {checks[name]}")


@step("an order is sold and metered in its slice, within its limits")
def order(node):
    for _ in range(30):
        code, text = node.vm.run(f"hufu buyer browse {BUYER} --node s1/n1 --product small", check=False)
        if code == 0:
            break
        time.sleep(1)
    else:
        raise VmError(text)
    node.vm.run(f"hufu buyer order {BUYER} --term 20h --ceiling 1000")
    status = node.wait("a deal", lambda s: len(s["contracts"]) == 1)
    node.contract = status["contracts"][0]["contract_no"]
    node.unit = f"order-{node.contract}"
    node.serving()
    node.pid = node.workload()
    if not node.pid:
        raise VmError("no workload in the order's slice")
    slice_dir = f"/sys/fs/cgroup/hufu.slice/hufu-orders.slice/hufu-orders-{node.contract}.slice"
    limits = node.vm.run(f"cat {slice_dir}/cpu.max {slice_dir}/memory.max {slice_dir}/pids.max").split()
    if limits != ["20000", "100000", "67108864", "4096"]:
        raise VmError(f"limits {limits}")


@step("the agent restarted, killed, frozen until the watchdog ends it")
def restarts(node):
    node.vm.run("systemctl restart hufu")
    node.serving()
    node.same_workload("restart")
    node.vm.run("kill -9 $(systemctl show -P MainPID hufu)")
    node.serving()
    node.same_workload("kill -9")
    node.vm.run("mkdir -p /run/systemd/system/hufu.service.d && printf '[Service]\\nWatchdogSec=10\\n' > /run/systemd/system/hufu.service.d/w.conf"
                " && systemctl daemon-reload && systemctl restart hufu")
    node.serving(1)
    before = node.vm.run("systemctl show -P NRestarts hufu").strip()
    node.vm.run("kill -STOP $(systemctl show -P MainPID hufu)")
    node.wait("the watchdog", lambda _: node.vm.run("systemctl show -P NRestarts hufu").strip() != before)
    node.vm.run("rm /run/systemd/system/hufu.service.d/w.conf && systemctl daemon-reload && systemctl restart hufu")
    node.serving()
    node.same_workload("watchdog")


@step("the package installed again over the running service")
def upgrade(node):
    node.vm.run("DEBIAN_FRONTEND=noninteractive dpkg -i /opt/t/packages/hufu_*.deb", 300)
    node.serving()
    node.same_workload("upgrade")


@step("wrong requests to root's helper are refused")
def helper(node):
    for request in ('{"verb":"stop","contract_no":"../../system"}', '{"verb":"exec","contract_no":"' + "0" * 32 + '"}', "x" * 20000):
        node.vm.run(f"printf '%s\\n' '{request}' > /run/q")
        answer = node.vm.run("perl -MIO::Socket::UNIX -e '$s=IO::Socket::UNIX->new(Peer=>\"/run/hufu-provision.sock\") or die; "
                             "open F,\"/run/q\"; print $s $_ while <F>; $s->flush; $s->shutdown(1); print <$s>'")
        if '"error"' not in answer:
            raise VmError(f"{request[:60]}: {answer}")
    code, text = node.vm.run("su -s /bin/sh nobody -c \"perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer=>q(/run/hufu-provision.sock)) or die'\"", check=False)
    if code == 0:
        raise VmError(f"anybody may ask root's helper: {text}")
    node.same_workload("requests that were refused")


@step("the broker gone for a while, then without its memory")
def broker(node):
    node.vm.run("systemctl stop mosquitto")
    node.serving()
    node.vm.run("rm -f /var/lib/mosquitto/mosquitto.db && systemctl start mosquitto")
    node.linked()
    node.receipted()
    node.same_workload("broker")


@step("the clock stepped forward and back")
def clock(node):
    node.vm.run("date -s '+10 minutes' > /dev/null")
    node.serving()
    node.vm.run("date -s '-10 minutes' > /dev/null")
    node.serving(1)
    node.same_workload("clock")


@step("the machine suspended")
def suspend(node):
    node.vm.suspend(30)
    node.serving()
    node.same_workload("suspend")


@step("the disk full, then free again")
def full_disk(node):
    node.vm.run("fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - 65536)) /fill || dd if=/dev/zero of=/fill bs=64k 2> /dev/null; "
                "dd if=/dev/zero of=/fill2 bs=4k 2> /dev/null; true", 300)
    time.sleep(40)
    node.vm.run("rm -f /fill /fill2; systemctl reset-failed hufu 2> /dev/null; systemctl start hufu hufu-platform mosquitto")
    node.linked()
    node.serving()
    node.same_workload("full disk")


@step("an old ledger put back")
def rollback(node):
    node.receipted()
    node.vm.run("systemctl stop hufu && cp -a /var/lib/hufu /var/lib/hufu.old && systemctl start hufu")
    node.serving()
    node.receipted()
    node.vm.run("systemctl stop hufu && rm -rf /var/lib/hufu && mv /var/lib/hufu.old /var/lib/hufu && systemctl start hufu")
    node.serving()
    node.same_workload("an old ledger")


@step("removed and installed again")
def removal(node):
    node.vm.run("DEBIAN_FRONTEND=noninteractive dpkg --purge hufu", 300)
    node.vm.run("test -d /var/lib/hufu/ledger && test -e /etc/hufu/credentials/node.key")
    node.same_workload("removal")
    node.vm.run("DEBIAN_FRONTEND=noninteractive dpkg -i /opt/t/packages/hufu_*.deb && systemctl enable --now hufu-provision.socket hufu", 300)
    node.serving()
    node.same_workload("installed again")


@step("power cut, cold boot: the workload is started again, the gap is said")
def power_cut(node):
    before = node.serving()
    node.vm.cut()
    node.vm.boot()
    after = node.wait("the order after the cut", lambda s: node.records(s) > node.records(before))
    if node.records(after) < node.records(before):
        raise VmError("records were lost")
    node.serving()
    node.pid = node.workload()


@step("the end: one bill, right, and everything proves it")
def judge(node):
    node.vm.run(f"hufu buyer change terminate {BUYER} --why 'the test is over'")
    status = node.wait("the bill", lambda s: bool(node.of(s)["bills"]) and node.of(s)["bills"][0]["receipted"])
    bills = node.of(status)["bills"]
    if len(bills) != 1:
        raise VmError(f"bills {bills}")
    listed = node.json("hufu-platform bills --dir /var/lib/hufu-platform --json")
    rows = listed["bills"]
    if [row["bill_no"] for row in rows] != [bills[0]["bill_no"]]:
        raise VmError(f"the platform lists {rows}")
    node.receipted()
    node.vm.run(f"hufu buyer pack {bills[0]['bill_no']} {BUYER} --output /opt/t/bill.zip")
    verdict = node.json("hufu verify /opt/t/bill.zip --trust /opt/t/pki/root.pem --json", 300)
    bad = {name: v for name, v in verdict["verdicts"].items() if v["result"] == "fail"}
    if bad:
        raise VmError(f"verdicts {bad}")
    print("vm: verdicts", {name: v["result"] for name, v in verdict["verdicts"].items()}, "total", bills[0]["total_cny"])
    node.vm.run("systemctl stop hufu")
    checked = node.json("hufu ledger check /var/lib/hufu/ledger --trust /opt/t/pki/root.pem --json", 300)
    if checked["problems"]:
        raise VmError(f"ledger {checked['problems'][:5]}")
    alarms = node.json("hufu-platform alarms --dir /var/lib/hufu-platform --json")
    forks = [a for a in alarms["alarms"] if "fork" in json.dumps(a).lower()]
    if forks:
        raise VmError(f"forks {forks}")
    node.vm.run(f"test ! -e /sys/fs/cgroup/hufu.slice/hufu-orders.slice/hufu-orders-{node.contract}.slice")


SHORT = [install, order, restarts, upgrade, helper, broker, judge]
LONG = [install, order, restarts, upgrade, helper, broker, clock, suspend, full_disk, rollback, removal, power_cut, judge]


def main():
    image, payload, work = sys.argv[1:4]
    machine = Machine(image, work, payload)
    node = Node(machine)
    try:
        start = time.monotonic()
        machine.boot()
        print(f"vm: booted: {time.monotonic() - start:.0f} s", flush=True)
        for part in SHORT if "--short" in sys.argv else LONG:
            try:
                part(node)
            except VmError as error:
                print(f"vm: FAILED: {part.title}: {error}", flush=True)
                return 1
        print("vm: all held")
        return 0
    finally:
        machine.cut()


if __name__ == "__main__":
    sys.exit(main())
