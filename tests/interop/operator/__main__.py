#!/usr/bin/env python3
"""An operator's end of IF2, written from docs/ alone: paho-mqtt for the link, asn1tools for docs/evidence.asn1, the openssl command for
SM2 and certificates, Python's standard library for the rest. Nothing of Hufu's is used.

    target/py/bin/python tests/interop/operator --broker HOST:PORT --site S --node N --key K.pem --cert C.pem --trust CA.pem
        --buyer-key K.pem --buyer-cert C.pem --product P --status 'COMMAND'

It takes the node's product report and ledger, relays a buyer's browse and order, computes the bill again, confirms the payment and
publishes demands; and it sends every kind of wrong message that docs/if2.md names (wrong.py), looking by COMMAND, which prints the
node's status as JSON, whether the node raised an alarm. One JSON object on standard output says what was seen. Python 3.11, OpenSSL 3.
"""
import argparse
import json
import shlex
import subprocess
import sys
import time

import money
import wrong
from buyer import Purchase
from evidence import Signer, decode, entry_hash
from platform_end import Platform
from wire import rfc3339, unb64


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("broker", "site", "node", "key", "cert", "trust", "buyer-key", "buyer-cert", "product", "status"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    host, port = args.broker.rsplit(":", 1)
    args.broker = (host, int(port))
    return args


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def must_ok(what, answer):
    body, _ = answer
    if "ok" not in body:
        raise RuntimeError(f"{what}: {json.dumps(body, ensure_ascii=False)}")
    return body["ok"]


def main():
    args = arguments()
    status = lambda: json.loads(subprocess.run(shlex.split(args.status), check=True, capture_output=True).stdout)
    platform = Platform(args, Signer(args.key, args.cert), args.trust)
    buyer = Signer(args.buyer_key, args.buyer_cert)
    told = {}

    purchase = Purchase(buyer, platform.pool, args.product, args.trust)
    wrongs = wrong.Wrong(platform, purchase, status, args)

    say("the catalogue, retained and reported, and the log's first blocks")
    wrongs.on_the_way()
    platform.until("the catalogue", lambda: platform.catalogue and platform.retained and platform.seen.get("up/product-report"))
    platform.until("rules and certificates", lambda: {10, 23} <= {entry["kind"] for _, _, entry, _ in platform.logs[0].entries})
    assert any(product["id"] == args.product for product in platform.catalogue["products"]), platform.catalogue
    assert platform.presence["state"] == "online", platform.presence
    told["fetched"] = platform.seen["up/fetch"]

    say("browse and order")
    purchase.take_offer(must_ok("browse", platform.ask("browse", purchase.browse())))
    wrongs.before_the_order()
    ordered = purchase.order(25, 1000)
    deal = must_ok("order", platform.ask("order", ordered))
    purchase.take_deal(deal)
    told["contract_no"] = purchase.no.hex()
    assert deal["contract_no"] == told["contract_no"]
    wrongs.after_the_deal(ordered, deal)
    wrongs.no_stock()

    say("demands")
    fits = platform.publish_demand(buyer.id, {"items": [{"class": "IaaS", "minima": [{"resource": "cpu", "quantity": 1}], "quantity": 1}]})
    not_here = platform.publish_demand(buyer.id, {"items": [{"class": "SaaS", "minima": [], "quantity": 1}]})
    platform.until("both are answered", lambda: {fits, not_here} <= set(platform.responses))
    proposal, refusal = platform.responses[fits][0], platform.responses[not_here][0]
    assert proposal["proposal"]["productId"] == args.product, proposal
    told["proposal_cny"], told["refusal"] = money.decimal(proposal["proposal"]["estimate"]), refusal["refusal"]["code"]
    for number in (fits, not_here):
        _, height, octets = platform.responses[number]
        platform.until("its block", lambda: any(h == height and entry == octets for h, _, _, entry in platform.logs[0].entries))

    say("the bill")
    refund = must_ok("refund-amount", platform.ask("refund-amount", {"contract_no": told["contract_no"]}))
    assert (refund["payment"], refund["refund_cny"], refund["is_final"]) == ("postpaid", "0.00", False), refund
    number = told["contract_no"] + "-1"
    platform.until("the bill is pushed", lambda: number in platform.pushed, 120)
    height, octets, bill = platform.bills[number]
    assert entry_hash(octets) not in platform.refused, platform.refused
    told |= {"bill_no": number, "total_cny": money.decimal(bill["total"]), "lines": len(bill["lines"]), "records": bill["lastSeq"] + 1}
    listed = must_ok("bill-query", platform.ask("bill-query", {"contract_no": told["contract_no"]}))
    assert [(one["bill_no"], one["entry"], one["state"]) for one in listed["bills"]] == [(number, platform.pushed[number]["entry"], "payable")], listed

    say("the payment")
    wrongs.after_the_bill(number)
    platform.paid[number] = time.time_ns()
    platform.until("the payment is in the finance log", lambda: platform.logs[1].of_kind(42), 120)
    platform.until("and named in the trade log", lambda: sum(
        decode("FinanceLink", body)["kind"] in (40, 42) for _, _, body, _ in platform.logs[0].of_kind(24)) >= 2)
    refund = must_ok("refund-amount", platform.ask("refund-amount", {"contract_no": told["contract_no"], "at": rfc3339(purchase.deal["contractTime"])}))
    assert (refund["is_final"], refund["paid_cny"], refund["charged_cny"]) == (True, told["total_cny"], told["total_cny"]), refund
    wrongs.the_link()

    told |= {"wrong": wrongs.told, "tokens": platform.token_count, "refused": {name.hex(): code for name, code in platform.refused.items()},
             "sizes": [len(log) for log in platform.logs], "seen": platform.seen}
    platform.quiet(1)
    platform.link.close()
    print(json.dumps(told))
    for one in wrongs.failed:
        print(f"not as the document says: {one}", file=sys.stderr)
    return 1 if wrongs.failed else 0


if __name__ == "__main__":
    sys.exit(main())
