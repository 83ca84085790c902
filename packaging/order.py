"""What order.sh asks: runs an agent with ten orders under qemu-user and prints the functions that it executed, in address order."""

import bisect
import re
import subprocess
import sys
import time

import house

PROGRAM, LOG = sys.argv[1:3]
ORDERS = 10
# Where qemu-user puts a program that may lie anywhere.
BASE = 0x4000000000


def functions():
    """Start, end and name of each function of the program."""
    listed = subprocess.run(["nm", "-S", PROGRAM], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    code = [(int(row[0], 16), int(row[1], 16), row[3]) for row in rows if len(row) == 4 and row[2] in "tTwW"]
    return sorted((start, start + size, name) for start, size, name in code)


def executed():
    """Addresses in the program at which a block of code began or went on."""
    with open(LOG, errors="replace") as log:
        return {int(at, 16) - BASE for at in re.findall(r"^0x([0-9a-f]+):", log.read(), re.M)}


def run():
    """The agent from its start to the end of some windows; only its own code is written down."""
    traced = lambda command: ["qemu-x86_64-static", "-d", "in_asm", "-D", LOG, PROGRAM, *command[1:]]
    with house.House(mosquitto=True, window_s=10, inside=traced) as site:
        for number in range(ORDERS):
            site.order(number, "2h")
        serving = lambda: sum(c["service"] == "running" for c in site.status()["contracts"]) == ORDERS
        house.until("all orders metered", serving, 240)
        time.sleep(45)


run()
table = functions()
starts = [start for start, _, _ in table]
hot = set()
for address in executed():
    index = bisect.bisect_right(starts, address) - 1
    if index >= 0 and address < table[index][1]:
        hot.add(table[index])
for _, _, name in sorted(hot):
    print(name)
