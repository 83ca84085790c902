"""The end of a scenario: one bill, right by the kernel's own counter, with a clean ledger and the same at the platform."""

import io
import json
import zipfile
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from machine import VmError
from node import BUYER, ORDERS

# The prices of setup.sh, CNY per core-hour and GiB, with the base units in one; and what the order may use, thousandths of a core.
PRICES, MILLICORES = {"cpu": (36, 3600 * 10**9), "disk_write": (1, 2**30)}, 200
# How far meter and truth may be apart where nothing was lost: both read five times a second or less often, and throttling comes
# in steps of a tenth of a second.
APART_NS = 500_000_000
# What the workload may use before the meter's first sample, which is its base: not counted yet, though the slice began at zero.
# A busy host makes it longer.
START_NS = 3_000_000_000
# What one power cut may cost, ns of wall time: the window that was not closed, the state that was not written, the start.
CUT_NS = 20_000_000_000


def gave_up(node):
    """The buyer ends the order; the bill that follows."""
    node.vm.run(f"hufu buyer change terminate {BUYER} --why 'the test is over'")
    status = node.wait("the bill", lambda s: bool(node.of(s)["bills"]) and node.of(s)["bills"][0]["receipted"])
    bills = node.of(status)["bills"]
    if len(bills) != 1:
        raise VmError(f"bills {bills}")
    # Receipts over what came after the bill are written with the next window, and there is none any more.
    return bills[0]


def metered(node, bill):
    """The bill's CPU against what the kernel counted, and its total against its price."""
    lines = {line["resource"]: line for line in bill["lines"]}
    billed_ns = int(lines["cpu"]["quantity"])
    truth_ns = (node.burnt_us + node.truth_us()) * 1000
    lost_ns = truth_ns - billed_ns
    may_lose_ns = APART_NS + START_NS + node.boots * CUT_NS * MILLICORES // 1000
    print(f"vm: billed {billed_ns / 1e9:.3f} s of CPU, the kernel counted {truth_ns / 1e9:.3f} s, power cuts {node.boots}; "
          f"gaps {len(bill['gaps'])}, total {bill['total']} CNY", flush=True)
    if not -APART_NS <= lost_ns <= may_lose_ns:
        raise VmError(f"{lost_ns} ns lost, at most {may_lose_ns} may be")
    amounts = [(Decimal(lines[resource]["quantity"]) * price / base).quantize(Decimal("0.00000001"), ROUND_HALF_EVEN)
               for resource, (price, base) in PRICES.items() if resource in lines]
    total = sum(amounts).quantize(Decimal("0.01"), ROUND_DOWN)
    if node.written and int(lines["disk_write"]["quantity"]) < node.written:
        raise VmError(f"billed {lines['disk_write']['quantity']} bytes written, at least {node.written} were")
    if Decimal(bill["total"]) != total:
        raise VmError(f"total {bill['total']}, by its price {total}")


def proven(node, bill_no):
    """The pack, by `hufu verify`; gives the bill in it."""
    node.vm.run(f"hufu buyer pack {bill_no} {BUYER} --output /opt/t/bill.zip")
    verdict = node.json("hufu verify /opt/t/bill.zip --trust /opt/t/pki/root.pem --json", 300)
    results = {name: v["result"] for name, v in verdict["verdicts"].items()}
    print("vm: verdicts", results, flush=True)
    # What a clock did is said (data quality warns); nothing else may be.
    if verdict["exit"] != 0 or any(result != "pass" for name, result in results.items() if name != "data_quality"):
        raise VmError(f"verdicts {json.dumps(verdict)[:4000]}")
    if results["data_quality"] == "fail":
        raise VmError(f"data quality {json.dumps(verdict['verdicts']['data_quality'])[:4000]}")
    pack = node.vm.fetch("/opt/t/bill.zip")["/opt/t/bill.zip"]
    return json.loads(zipfile.ZipFile(io.BytesIO(pack)).read("bill.json"))


def platform(node, bill):
    """What the platform holds: this bill, once, and no fork."""
    rows = node.json("hufu-platform bills --dir /var/lib/hufu-platform --json")["bills"]
    if [(row["bill_no"], row["total_cny"]) for row in rows] != [(bill["bill_no"], bill["total_cny"])]:
        raise VmError(f"the platform lists {rows}")
    alarms = node.json("hufu-platform alarms --dir /var/lib/hufu-platform --json")["alarms"]
    if alarms:
        raise VmError(f"the platform's alarms: {alarms[:5]}")


def ledger(node):
    """The whole ledger, by `hufu ledger check`."""
    node.vm.run("systemctl stop hufu")
    checked = node.json("hufu ledger check /var/lib/hufu/ledger --trust /opt/t/pki/root.pem --json", 300)
    if checked["exit"] != 0 or checked["problems"]:
        raise VmError(f"ledger {json.dumps(checked)[:2000]}")


def everything(node):
    due = gave_up(node)
    bill = proven(node, due["bill_no"])
    metered(node, bill)
    platform(node, due)
    ledger(node)
    # The order's place is gone with it.
    node.vm.run(f"test ! -e {ORDERS}/{node.slice()}")
