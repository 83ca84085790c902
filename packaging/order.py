"""What order.sh asks: runs an agent with ten orders under qemu-user and prints the functions that it executed, in address order."""

import bisect
import re
import sys
import time

import house

PROGRAM, MAP, LOG = sys.argv[1:4]
ORDERS = 10
# Where qemu-user puts a program that may lie anywhere.
BASE = 0x4000000000


def functions():
    """Start, end and name of each function, from the linker's map: address, load address, size, alignment, symbol."""
    with open(MAP) as text:
        rows = [line.split() for line in text if re.match(r"\s*[0-9a-f]+\s+[0-9a-f]+\s+[0-9a-f]+\s+\d+\s{17}\S+$", line)]
    return sorted((int(row[0], 16), int(row[0], 16) + int(row[2], 16), row[4]) for row in rows if int(row[2], 16) > 0)


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
