#!/usr/bin/env python3
"""Compiles docs/evidence.asn1 with asn1tools, decodes every golden file and re-encodes it to the same bytes.

The file's name says its type: TYPE[-WHICH].der. What lies inside OCTET STRINGs (signed octets, entry bodies, blocks) is
decoded too. Usage: check_evidence.py [MODULE [FOLDER ..]]; exit status 0 when every file agrees.
"""
import pathlib
import sys

import asn1tools

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODIES = {
    1: "SignedStatement", 2: "SignedStatement", 3: "Deal", 4: "SignedStatement", 10: "Rules", 11: "Window",
    12: "UsageRecord", 13: "UsageRecord", 14: "OrderStatus", 15: "Signed", 17: "UserOperation", 18: "Signed", 19: "Signed",
    20: "SignedRotation", 21: "Signed", 22: "Signed",
    23: "Certificates", 24: "FinanceLink", 25: "SetAside", 26: "Epoch", 27: "Allocation", 28: "Signed", 29: "Signed", 40: "Bill", 41: "Correction", 42: "Payment",
    43: "RefundPaid",
}
SIGNED = {15: "Notice", 18: "Demand", 19: "Response", 21: "Receipt", 22: "Offer", 28: "Matching", 29: "Account"}
STATEMENTS = (1, 2, 4)


class Checker:
    def __init__(self, module):
        self.module = asn1tools.compile_files(str(module), "der")
        self.seen = {}
        self.kinds = set()
        self.statements = set()

    def check(self, name, data, where, tbs=None):
        """Decodes, re-encodes, follows the octets inside; `tbs` names what a Signed holds, where that is known."""
        value = self.module.decode(name, data, check_constraints=True)
        if self.module.encode(name, value, check_constraints=True) != data:
            raise ValueError(f"{where}: {name} re-encodes otherwise")
        self.seen[name] = self.seen.get(name, 0) + 1
        if name == "Signed" and tbs:
            self.check(tbs, value["tbs"], where)
        elif name == "Entry":
            kind = value["kind"]
            self.kinds.add(kind)
            self.check(BODIES[kind], value["body"], where, SIGNED.get(kind))
        elif name == "Block":
            self.check("Signed", self.module.encode("Signed", value["header"]), where, "BlockHeader")
            for entry in value["entries"]:
                self.check("Entry", entry, where)
        elif name == "Blocks":
            for block in value["blocks"]:
                self.check("Block", block, where)
        elif name == "Statement":
            self.statements.add(value["conType"])
        elif name == "Matching":
            self.check("Signed", self.module.encode("Signed", value["selection"]), where, "Selection")
        elif name == "SignedRotation":
            self.check("KeyRotation", value["rotation"], where)
        elif name == "SignedStatement":
            self.check("Statement", value["statement"], where)
        elif name == "Deal":
            self.check("Signed", self.module.encode("Signed", value["countersignature"]), where, "Countersignature")


def main(arguments):
    module = pathlib.Path(arguments[0]) if arguments else ROOT / "docs" / "evidence.asn1"
    folders = [pathlib.Path(a) for a in arguments[1:]] or [ROOT / "trade" / "testdata" / "golden"]
    checker = Checker(module)
    files = sorted(path for folder in folders for path in folder.glob("*.der"))
    bad = 0 if files else 1
    for path in files:
        try:
            checker.check(path.stem.split("-")[0], path.read_bytes(), path.name)
        except Exception as error:  # every file is reported, whatever is wrong with it
            bad += 1
            print(f"BAD {path.name}: {type(error).__name__}: {error}")
    never = sorted(n for n, t in checker.module.types.items() if type(t._type).__name__ == "Sequence" and n not in checker.seen)
    for name in never:
        bad += 1
        print(f"BAD {name}: a structure of the module without a golden file")
    for kind in sorted(set(BODIES) - checker.kinds):
        bad += 1
        print(f"BAD Entry: no golden entry of kind {kind} ({BODIES[kind]})")
    for kind in sorted(set(STATEMENTS) - checker.statements):
        bad += 1
        print(f"BAD Statement: no golden statement of conType {kind}")
    print(f"{len(files)} files, {sum(checker.seen.values())} values of {len(checker.seen)} structures, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
