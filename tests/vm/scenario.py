#!/usr/bin/env python3
"""A node's life on a real machine: installed, set up, one order sold and metered in a real slice, and everything that
happens to servers. Judged at the end: one bill, right by the kernel's own counter, a clean ledger, the same at the platform.

usage: scenario.py IMAGE PAYLOAD WORK [--short | --ci | --disk]

--short does what needs no power cut, --ci what fits into a CI, --disk only what is written to a disk; without either, clocks, suspend, full disk, an old ledger put
back, removal, power cuts too. The console's text and, where a step failed, the journal are left in WORK.
"""

import os
import signal
import sys
import time

import judge
from machine import Machine, VmError
from node import BUYER, Node


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
    began = node.json("SYSTEMD_COLORS=0 journalctl -u hufu -n 1 -o json --output-fields=HUFU_NODE MESSAGE='agent running'")
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
    node.wait("the workload", lambda s: node.of(s)["service"] == "running")
    node.watch()
    node.serving()
    slice_dir = f"{judge.ORDERS}/{node.slice()}"
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


def installed(node, directory):
    """Installs the packages of a directory of the payload over what is there; gives the version there is then."""
    node.vm.run(f"DEBIAN_FRONTEND=noninteractive dpkg -i /opt/t/packages/{directory}/hufu_*.deb", 300)
    return node.vm.run("dpkg-query -W -f '${Version}' hufu")


@step("upgraded from an older version, then to a newer revision")
def upgrade(node):
    digest = "cat /etc/hufu/hufu.toml /etc/hufu/provision.toml /etc/hufu/credentials/* | sha256sum"
    before = node.vm.run(digest)
    versions = [node.vm.run("dpkg-query -W -f '${Version}' hufu")]
    for directory in ("built", "newer"):
        was = node.vm.run("systemctl show -P MainPID hufu")
        versions.append(installed(node, directory))
        node.serving()
        node.same_workload(f"upgrade to {versions[-1]}")
        if node.vm.run("systemctl show -P MainPID hufu") == was:
            raise VmError(f"upgrade to {versions[-1]}: the old program still runs")
    if len(set(versions)) != 3:
        raise VmError(f"versions {versions}")
    if node.vm.run(digest) != before:
        raise VmError("the upgrade changed configuration or credentials")


@step("a configuration that this version does not know: refused, not hammered, mended")
def configuration(node):
    node.vm.run("cp -p /etc/hufu/hufu.toml /run/hufu.toml && printf '[retired]\\nkey = 1\\n' >> /etc/hufu/hufu.toml")
    code, text = node.vm.run("hufu check-config", check=False)
    if code != 78 or "retired" not in text:
        raise VmError(f"check-config: {code} {text}")
    node.vm.run("systemctl restart hufu", check=False)
    time.sleep(8)
    state = node.vm.run("systemctl show -p ActiveState -p ExecMainStatus -p NRestarts hufu").split()
    if sorted(state) != ["ActiveState=failed", "ExecMainStatus=78", "NRestarts=0"]:
        raise VmError(f"the service: {state}")
    node.vm.run("journalctl -u hufu -n 20 -o cat | grep retired")
    node.vm.run("cat /run/hufu.toml > /etc/hufu/hufu.toml && systemctl start hufu")
    node.serving()
    node.same_workload("a wrong configuration")


@step("bytes written to the disk, direct, synced and late, are metered to the byte")
def disk(node):
    before = node.used(node.serving(), "disk_write")
    for how, mebibytes, arguments, after in (("direct", 16, "oflag=direct", ""), ("fsync", 12, "conv=fsync", ""), ("written back late", 20, "", "sync")):
        # In a service of its own below the order's slice, which is gone when the last bytes are written back.
        node.vm.run(f"systemd-run --quiet --wait --collect --slice={node.slice()} "
                    f"dd if=/dev/zero of=/var/tmp/hufu-written bs=1M count={mebibytes} status=none {arguments}", 300)
        if after:
            node.vm.run(after, 300)
        used = node.used(node.serving(), "disk_write")
        metered, written = used - before, mebibytes << 20
        print(f"vm: {how}: wrote {written}, metered {metered}", flush=True)
        if metered != written:
            raise VmError(f"{how}: {written} bytes were written, {metered} metered")
        node.written, before = node.written + written, used
        node.vm.run("rm /var/tmp/hufu-written && sync")
        before = node.used(node.serving(), "disk_write")
    node.same_workload("writing")


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


@step("removed, purged and installed again")
def removal(node):
    node.vm.run("systemctl stop hufu")
    digest = "find /var/lib/hufu /etc/hufu -type f -exec sha256sum {} + | sort | sha256sum"
    before = node.vm.run(digest)
    for how in ("--remove", "--purge"):
        node.vm.run(f"DEBIAN_FRONTEND=noninteractive dpkg {how} hufu", 300)
        if node.vm.run(digest) != before:
            raise VmError(f"dpkg {how} touched the ledger, the configuration or the credentials")
        node.same_workload(f"dpkg {how}")
    node.vm.run("test ! -e /usr/bin/hufu")
    installed(node, "built")
    if node.vm.run(digest) != before:
        raise VmError("the new installation touched the ledger, the configuration or the credentials")
    node.vm.run("systemctl enable --now hufu-provision.socket hufu")
    node.serving()
    node.same_workload("installed again")


def up_again(node, before):
    """After a cold boot: nothing that was sealed is lost, the order is provided and metered again."""
    after = node.wait("the order after the cut", lambda s: node.records(s) > node.records(before))
    if node.used_ns(after) < node.used_ns(before):
        raise VmError(f"usage was lost: {node.used_ns(before)} ns, now {node.used_ns(after)} ns")
    node.wait("the workload", lambda s: node.of(s)["service"] == "running")
    node.watch()
    node.serving()


@step("power cut, cold boot: the workload is started again, nothing sealed is lost")
def power_cut(node):
    node.serving()
    up_again(node, node.cold_boot())


@step("a half-installed package, power cut, cold boot, dpkg --configure -a")
def half_installed(node):
    node.vm.run("dpkg --unpack /opt/t/packages/newer/hufu_*.deb", 300)
    before = node.cold_boot()
    if "hufu" not in node.vm.run("dpkg --audit"):
        raise VmError("the package is not half-installed")
    up_again(node, before)
    node.vm.run("dpkg --configure -a", 300)
    node.vm.run("test -z \"$(dpkg --audit)\"")
    node.serving()
    node.same_workload("dpkg --configure -a")


@step("power cut, and the machine's clock is from before the certificates: refused with its reason, goes on when it is set")
def wrong_clock(node):
    # systemd lifts 1970 to the day it was built itself.
    before = node.cold_boot(clock="1970-01-02T00:00:00")
    time.sleep(30)
    state = node.vm.run("systemctl show -P ActiveState hufu").strip()
    reason = node.vm.run("journalctl -b -u hufu -n 50 -o cat | grep -i valid | tail -n 1", check=False)[1].strip()
    print(f"vm: with that clock the service is {state}: {reason}", flush=True)
    if state == "failed" and not reason:
        raise VmError("the service failed without a reason")
    # Every daily timer of the machine is due at once then; what counts is that the node comes back, not how soon.
    node.vm.run(f"date -s @{int(time.time())} > /dev/null && systemctl start --no-block hufu hufu-platform")
    up_again(node, before)


@step("the end: one bill, right, and everything proves it")
def end(node):
    judge.everything(node)


SHORT = [install, order, restarts, upgrade, helper, configuration, broker, end]
CI = [install, order, restarts, upgrade, helper, end]
DISK = [install, order, disk, end]
LONG = [install, order, restarts, disk, upgrade, helper, configuration, broker, clock, suspend, full_disk, rollback, removal, power_cut,
        half_installed, wrong_clock, end]


CHOICES = {"--ci": CI, "--short": SHORT, "--disk": DISK}


def left_behind(machine, work):
    """What a failed run leaves to be looked at: the journal of the machine, if it still answers."""
    try:
        machine.run("journalctl -b -o short-precise --no-pager > /run/journal.txt; hufu status --json > /run/status.json 2>&1; true", 120)
        for name, content in machine.fetch("/run/journal.txt", "/run/status.json").items():
            with open(os.path.join(work, os.path.basename(name)), "wb") as file:
                file.write(content)
        print(f"vm: the machine's journal: {work}/journal.txt", flush=True)
    except (VmError, OSError) as error:
        print(f"vm: no journal: {error}", flush=True)


def main():
    image, payload, work = sys.argv[1:4]
    # Told to end, it ends the machine too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine = Machine(image, work, payload)
    node = Node(machine)
    try:
        start = time.monotonic()
        machine.boot()
        print(f"vm: booted: {time.monotonic() - start:.0f} s", flush=True)
        for part in next((steps for name, steps in CHOICES.items() if name in sys.argv), LONG):
            try:
                part(node)
            except VmError as error:
                print(f"vm: FAILED: {part.title}: {error}", flush=True)
                left_behind(machine, work)
                return 1
        print(f"vm: all held, {time.monotonic() - start:.0f} s")
        return 0
    finally:
        machine.cut()


if __name__ == "__main__":
    sys.exit(main())
