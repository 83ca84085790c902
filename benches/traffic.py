"""Loads that talk over a veth, and who else counts them: nft on the hooks of the cgroup in which `hufu meter` runs its commands, and the
interface itself."""

import json
import os
import pathlib
import subprocess
import sys

CGROUPS = pathlib.Path("/sys/fs/cgroup")
UNIFIED = next((path for path in (CGROUPS, CGROUPS / "unified") if (path / "cgroup.controllers").exists()), None)
HERE = UNIFIED is not None
# Where `hufu meter` makes its places.
PARENT = "hufu-meter"

PEER = r"""
import socket, sys, threading
stream = socket.create_server(("0.0.0.0", 9470))
packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); packets.bind(("0.0.0.0", 9471))
def answer():
    while True:
        data, whom = packets.recvfrom(65536)
        packets.sendto(data[: len(data) // 2], whom)
threading.Thread(target=answer, daemon=True).start()
def serve(peer):
    while True:
        head = peer.recv(9, socket.MSG_WAITALL)
        if len(head) < 9: break
        left, back = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
        while left:
            left -= len(peer.recv(min(left, 1 << 16)))
        peer.sendall(bytes(back))
        if head[8]: break
    peer.close()
print("ready", flush=True)
while True:
    peer, _ = stream.accept()
    threading.Thread(target=serve, args=(peer,), daemon=True).start()
"""
LOAD = r"""
import random, socket, sys, time
address, mode, amount = sys.argv[1], sys.argv[2], int(sys.argv[3])
def exchange(out, sent, back, last):
    out.sendall(sent.to_bytes(4, "big") + back.to_bytes(4, "big") + bytes([last]) + bytes(sent))
    while back:
        back -= len(out.recv(min(back, 1 << 16)))
if mode == "once":
    with socket.create_connection((address, 9470)) as out:
        exchange(out, amount - 9, 0, 1)
        out.shutdown(socket.SHUT_WR)
        out.recv(1)
        time.sleep(0.5)
else:
    draw, end = random.Random(1), time.monotonic() + amount
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets.settimeout(1)
    while time.monotonic() < end:
        with socket.create_connection((address, 9470)) as out:
            for number in range(20):
                exchange(out, draw.randrange(1, 200_000), draw.randrange(1, 200_000), number == 19)
        for _ in range(50):
            packets.sendto(bytes(draw.randrange(1, 1400)), (address, 9471))
            try:
                packets.recv(65536)
            except TimeoutError:
                pass
        time.sleep(0.05)
    time.sleep(0.5)
"""


def payload(net, mode, amount):
    """The command to meter."""
    return [sys.executable, "-c", LOAD, net.order, mode, str(amount)]


class Net:
    """A network namespace behind a veth with the other end of the loads in it, and nft rules for the cgroup of `hufu meter`."""

    def __enter__(self):
        self.id = os.getpid() % 60_000
        self.name, self.veth, self.table = f"hufu-acc-{self.id}", f"hfacc{self.id}", f"hufu_acc_{self.id}"
        self.host, self.order = (f"10.{200 + self.id // 250 % 50}.{self.id % 250}.{end}" for end in (1, 2))
        for words in (f"netns add {self.name}", f"link add {self.veth} type veth peer name eth0 netns {self.name}",
                      f"addr add {self.host}/24 dev {self.veth}", f"link set {self.veth} up",
                      f"-n {self.name} addr add {self.order}/24 dev eth0", f"-n {self.name} link set eth0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        pathlib.Path(f"/proc/sys/net/ipv6/conf/{self.veth}/disable_ipv6").write_text("1")
        parent = UNIFIED / PARENT
        parent.mkdir(exist_ok=True)
        path = parent.relative_to(CGROUPS)
        chains = "".join(
            f'counter {name} {{ }}\nchain {hook} {{\ntype filter hook {hook} priority 0\n'
            f'socket cgroupv2 level 1 "{path}" counter name {name}\n}}\n' for hook, name in (("input", "rx"), ("output", "tx")))
        subprocess.run(["nft", "-f", "-"], input=f"table inet {self.table} {{\n{chains}}}\n", text=True, check=True)
        self.peer = subprocess.Popen(["ip", "netns", "exec", self.name, sys.executable, "-c", PEER], stdout=subprocess.PIPE, text=True)
        self.peer.stdout.readline()
        return self

    def __exit__(self, *_):
        self.peer.kill()
        self.peer.wait()
        for words in (["nft", "delete", "table", "inet", self.table], ["ip", "link", "del", self.veth], ["ip", "netns", "del", self.name]):
            subprocess.run(words, check=False)

    def interface(self):
        """Bytes sent and received by the host's end of the veth, then frames."""
        statistics = pathlib.Path(f"/sys/class/net/{self.veth}/statistics")
        return [int((statistics / name).read_text()) for name in ("tx_bytes", "rx_bytes", "tx_packets", "rx_packets")]

    def nft(self):
        """Bytes by counter."""
        listed = subprocess.run(["nft", "-j", "list", "counters", "table", "inet", self.table], check=True, capture_output=True, text=True)
        counters = [item["counter"] for item in json.loads(listed.stdout)["nftables"] if "counter" in item]
        return {counter["name"]: counter["bytes"] for counter in counters}
