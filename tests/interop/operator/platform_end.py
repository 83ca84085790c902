"""The operator's end of IF2: takes what a node sends and answers it, and asks what a platform asks (docs/if2.md sections 4 to 6).

It keeps in memory what a platform keeps in a database. What goes wrong with a message is answered with its code, never skipped.
"""
import json
import secrets
import time

import money
from evidence import Bad, Log, decode, encode, entry_hash, opened, sm3
from wire import MESSAGE_MAX, Known, Link, b64, rfc3339, seal, unb64, unseal

REMEDY = {"en": "see docs/if2.md section 4", "zh": "参见 docs/if2.md 第 4 节"}
PAYMENT_QUESTION = "payment-confirm"
# Messages that need no token here; all others do (docs/if2.md section 5.12).
WITHOUT_TOKEN = ("auth-code", "token", "product-report", "fetch", "logout")


class Platform:
    def __init__(self, args, signer, anchor):
        self.pool, self.site, self.signer, self.anchor = f"{args.site}/{args.node}", args.site, signer, anchor
        self.known = Known(self.pool, anchor)
        self.logs = [Log(0, self.pool), Log(1, self.pool)]
        self.catalogue, self.presence, self.pushed, self.responses = None, None, {}, {}
        self.given, self.paid, self.demands, self.taken = {}, {}, [], {}
        self.deals, self.bills, self.refused, self.receipted = {}, {}, {}, [None, None]
        self.codes, self.tokens, self.token_count = set(), set(), 0
        self.answers, self.seen, self.retained = [], {}, None
        self.bend = {}  # interface -> function that makes another answer, once; None where it is not about this one
        self.link = Link(*args.broker, args.site)

    # ------------------------------------------------------------ the loop

    def topic(self, rest):
        return f"hufu/v1/{self.pool}/{rest}"

    def turn(self, timeout=0.2):
        """Takes one message if there is one; acknowledged to the broker when it was handled."""
        try:
            message = self.link.inbox.get(timeout=timeout)
        except Exception:  # queue.Empty
            return
        self.take(message.topic, message.payload, message.retain)
        self.link.client.ack(message.mid, message.qos)

    def until(self, what, condition, limit_s=90):
        deadline = time.monotonic() + limit_s
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {limit_s} s for: {what}")
            self.turn()

    def quiet(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.turn()

    def take(self, topic, payload, retained):
        prefix = f"hufu/v1/{self.pool}/"
        if not topic.startswith(prefix):
            return
        rest = topic[len(prefix):].split("/")
        self.seen["/".join(rest)] = self.seen.get("/".join(rest), 0) + 1
        if rest == ["presence"]:
            self.presence = json.loads(payload) if payload else None
        elif rest == ["products"]:
            self.retained = payload
            self.report(unseal(payload, self.known, "product-report", self.pool, "platform"))
        elif rest == ["up", "blocks"]:
            self.blocks(payload)
        elif len(rest) == 2 and rest[0] == "up":
            self.request(rest[1], payload)
        elif len(rest) == 3 and rest[0] == "down" and rest[2] == "re":
            inner = unseal(payload, self.known, rest[1], self.pool, "platform")
            self.answers.append((rest[1], inner, payload))

    # ------------------------------------------------------------ requests of the node

    def request(self, iface, payload):
        handlers = {
            "product-report": self.report, "fetch": self.fetch, "bill-push": self.push, PAYMENT_QUESTION: self.payment,
            "demands": self.told, "demand-response": self.response, "auth-code": self.authorise, "token": self.give_token,
            "logout": self.end_token}
        if iface not in handlers:
            return
        message_id, behind = None, None
        try:
            inner = unseal(payload, self.known, iface, self.pool, "platform")
            message_id = inner["id"]
            before = self.given.get((iface, message_id))
            if before and before[0] != inner["body"]:
                raise Bad("duplicate", "this id has another body")
            if before and before[1]:
                self.link.publish(self.topic(f"up/{iface}/re"), before[1])
                return
            if iface not in WITHOUT_TOKEN and inner.get("token") not in self.tokens:
                raise Bad("token", "a token that holds is needed")
            body, final = handlers[iface](inner)
            if isinstance(body, tuple):
                body, behind = body
            answer = {"ok": body}
        except Bad as error:
            answer, final = {"error": {"code": error.code, "remedy": REMEDY}}, False
        sent, _ = seal(self.signer, iface, "platform", self.pool, answer, re_id=message_id)
        spoiled = self.bend[iface](answer, message_id) if iface in self.bend and "ok" in answer else None
        if spoiled:
            self.bend.pop(iface)
            sent = spoiled
        elif message_id is not None:
            self.given[iface, message_id] = (inner["body"], sent if final else None)
        self.link.publish(self.topic(f"up/{iface}/re"), sent)
        if behind:
            self.link.publish(self.topic(f"up/{iface}/re"), behind)

    def report(self, inner):
        body = inner["body"]
        chain = [unb64(one) for one in body["certificates"]]
        self.known.introduce(chain)
        if self.catalogue is None or body["revision"] >= self.catalogue["revision"]:
            self.catalogue = body
        return {"state": "stored"}, True

    def fetch(self, inner):
        body = inner["body"]
        if set(body) != {"log", "from", "certificates"} or body["log"] not in (0, 1):
            raise Bad("malformed", "body of fetch")
        log = self.logs[body["log"]]
        held = {"log": body["log"], "from": body["from"], "size": len(log), "root": log.root().hex(), "receipted": 0}
        if self.receipted[body["log"]]:
            size, root = self.receipted[body["log"]]
            held |= {"receipted": size, "receipted_root": root.hex()}
        if body["from"] >= len(log):
            return held, False
        count = len(log) - body["from"]
        while True:
            behind = encode("Blocks", {"version": 1, "log": body["log"], "first": body["from"],
                                       "blocks": log.blocks[body["from"]:body["from"] + count]})
            if len(behind) <= MESSAGE_MAX:
                break
            count //= 2
        until = body["from"] + count
        return (held | {"next": until, "next_root": log.root(until).hex()}, behind), False

    def authorise(self, inner):
        if inner["body"] != {"scope": "if2"}:
            raise Bad("malformed", "body of auth-code")
        code = secrets.token_hex(16)
        self.codes.add(code)
        return {"code": code, "expires": rfc3339(time.time_ns() + 60 * 10**9)}, True

    def give_token(self, inner):
        """Section 5.12: a code is good once."""
        if inner["body"].get("code") not in self.codes:
            raise Bad("unknown", "no such code")
        self.codes.discard(inner["body"]["code"])
        number, now = secrets.token_bytes(16), time.time_ns()
        us = f"{self.site}/platform"
        token = encode("Token", {"version": 1, "tokenId": number, "issuer": us, "subject": self.pool, "audience": us, "scope": "if2",
                                 "notBefore": now, "notAfter": now + 3600 * 10**9})
        self.tokens.add(number.hex())
        self.token_count += 1
        return {"token": b64(self.signer.signed(token))}, True

    def end_token(self, inner):
        number = inner["body"].get("token_id")
        if number not in self.tokens:
            raise Bad("unknown", "no such token")
        self.tokens.discard(number)
        return {"token_id": number, "state": "ended"}, True

    def push(self, inner):
        body = inner["body"]
        number, total, octets = body["bill_no"], body["total_cny"], unb64(body["entry"])
        if number not in self.bills:
            raise Bad("unknown", "its block is not here yet")
        height, entry, bill = self.bills[number]
        if (entry, money.decimal(bill["total"]), height, bill["contractNo"].hex()) != (octets, total, body["height"], body["contract_no"]):
            raise Bad("duplicate", "another bill under this number")
        if entry_hash(entry) in self.refused:
            raise Bad("amount", "the bill was refused")
        self.pushed[number] = body
        return {"bill_no": number, "state": "stored"}, True

    def payment(self, inner):
        number = inner["body"]["bill_no"]
        if number not in self.bills:
            raise Bad("unknown", "no such bill")
        if number not in self.paid:
            return {"bill_no": number, "state": "unpaid"}, False
        return {"bill_no": number, "state": "paid", "amount_cny": money.decimal(self.bills[number][2]["total"]),
                "paid_at": rfc3339(self.paid[number])}, True

    def told(self, inner):
        after = inner["body"]["after"]
        now = time.time_ns()
        open_ones = [(at, signed) for at, (signed, until) in enumerate(self.demands, 1) if at > after and until > now][:16]
        last = open_ones[-1][0] if open_ones else max(after, len(self.demands))
        return {"demands": [b64(signed) for _, signed in open_ones], "last": last, "more": False}, False

    def response(self, inner):
        body = inner["body"]
        octets = unb64(body["entry"])
        entry = decode("Entry", octets)
        leaf = self.known.by_id.get(decode("Signed", entry["body"])["certId"])
        if entry["kind"] != 19 or leaf is None:
            raise Bad("malformed", "no response entry")
        value, _ = opened("Response", entry["body"], leaf)
        demand = next((one for one in self.taken.values() if one["digest"] == value["demand"]), None)
        if demand is None or demand["no"].hex() != body["demand_no"]:
            raise Bad("unknown", "no such demand here")
        if value["time"] >= demand["until"] or value["computingPoolId"] != self.pool or ("proposal" in value) == ("refusal" in value):
            raise Bad("offer", "an answer that does not fit")
        zeroed = encode("Response", value | {"proposalNo": bytes(16)})
        if sm3(zeroed)[:16] != value["proposalNo"]:
            raise Bad("malformed", "its number is not of its content")
        self.responses[body["demand_no"]] = (value, body["height"], octets)
        return {"demand_no": body["demand_no"], "state": "stored"}, True

    # ------------------------------------------------------------ blocks and receipts (section 6)

    def blocks(self, payload):
        topic = self.topic("up/blocks/re")
        problem = lambda code: self.link.publish(
            topic, seal(self.signer, "blocks", "platform", self.pool, {"error": {"code": code, "remedy": REMEDY}})[0])
        try:
            if len(payload) > 131_072:
                raise Bad("malformed", "too large")
            message = decode("Blocks", payload)
            if message["log"] == 0:
                self.introduced_by(message["blocks"])
            if not self.known.by_id:
                raise Bad("certificate", "no certificate of this node is trusted yet")
        except Bad as error:
            problem(error.code)
            return
        log, height = self.logs[message["log"]], message["first"]
        since = min(message["first"], len(log))
        for der in message["blocks"]:
            try:
                if height > len(log):
                    break
                if height < len(log) and log.blocks[height] != der:
                    raise Bad("duplicate", "a fork")
                if height == len(log):
                    tbs, entries = log.read(der, height, self.known.by_id)
                    if not self.judge(message["log"], height, entries):
                        break
                    log.append(der, tbs, entries)
            except Bad as error:
                problem(error.code)
                break
            height += 1
        self.link.publish(topic, self.receipt(message["log"], since))

    def introduced_by(self, blocks):
        for der in blocks:
            for octets in decode("Block", der)["entries"]:
                entry = decode("Entry", octets)
                if entry["kind"] == 23:
                    said = decode("Certificates", entry["body"])
                    if said["role"] == "node":
                        self.known.introduce(said["certificates"])

    def receipt(self, number, since):
        log = self.logs[number]
        bills = [{"entry": entry_hash(octets), "number": decode("Bill", body)["number"]}
                 for height, _, body, octets in (log.of_kind(40) if number else []) if height >= since and entry_hash(octets) not in self.refused]
        refused = [{"entry": entry_hash(octets), "code": self.refused[entry_hash(octets)]}
                   for height, _, _, octets in log.entries if height >= since and entry_hash(octets) in self.refused]
        tbs = encode("Receipt", {"version": 1, "computingPoolId": self.pool, "log": number, "size": len(log), "root": log.root(),
                                 "storedAt": time.time_ns(), "refused": refused[-400:], "bills": bills[-400:]})
        if "blocks" in self.bend:
            return self.bend.pop("blocks")(decode("Receipt", tbs))
        key = (number, since, len(log))
        self.given.setdefault(key, self.signer.signed(tbs))
        self.receipted[number] = (len(log), log.root())
        return self.given[key]

    def judge(self, number, height, entries):
        """Section 3 of docs/evidence.md as far as this end judges; False when it rests on a log that is not here yet."""
        for index, (entry, octets) in enumerate(entries):
            kind, body = entry["kind"], entry["body"]
            try:
                if kind == 3:
                    self.judge_deal(octets, decode("Deal", body))
                elif kind == 40:
                    if not self.judge_bill(height, octets, decode("Bill", body)):
                        return False
                elif kind == 42:
                    self.judge_payment(decode("Payment", body))
            except Bad as error:
                self.refused[entry_hash(octets)] = error.code
        return True

    def judge_deal(self, octets, deal):
        """Formula 8: the node's countersignature is over this order."""
        trade = self.logs[0]
        order = next((body for h, i, body, entry in trade.of_kind(2) if entry_hash(entry) == deal["order"]["hash"]), None)
        if order is None:
            raise Bad("unknown", "the deal names no order here")
        order = decode("SignedStatement", order)
        statement = decode("Statement", order["statement"])
        leaf = self.known.by_id.get(deal["countersignature"]["certId"])
        said = decode("Countersignature", deal["countersignature"]["tbs"])
        if leaf is None or not leaf.verifies(deal["countersignature"]["tbs"], deal["countersignature"]["signature"]):
            raise Bad("signature", "countersignature")
        wanted = (sm3(order["statement"]), sm3(order["signature"]), self.pool)
        if (said["statement"], said["buyerSignature"], said["computingPoolId"]) != wanted or deal["buyerSignature"] != order["signature"]:
            raise Bad("signature", "a countersignature over another order")
        for name in ("contractNo", "offer", "buyer", "requirement", "contractValue"):
            if deal[name] != statement[name]:
                raise Bad("state", f"{name} of the deal is not the order's")
        self.deals[deal["contractNo"]] = (octets, deal)

    def judge_bill(self, height, octets, bill):
        last = bill["lastRecord"]
        trade = self.logs[0]
        if len(trade) <= last["height"]:
            return False
        no = bill["contractNo"]
        deal = self.deals.get(no)
        if deal is None:
            raise Bad("unknown", "no deal of this contract")
        records = [(entry, decode("UsageRecord", body)) for kind in (12, 13) for _, _, body, entry in trade.of_kind(kind)]
        records = sorted(((entry, record) for entry, record in records if record["contractNo"] == no), key=lambda one: one[1]["orderSeq"])
        names = [(h, i) for h, i, _, entry in trade.entries if entry_hash(entry) == entry_hash(records[-1][0])] if records else []
        if not names:
            raise Bad("amount", "no usage records")
        named = {"log": 0, "height": names[0][0], "index": names[0][1], "hash": entry_hash(records[-1][0])}
        offers = [decode("Signed", body)["tbs"] for _, _, body, _ in trade.of_kind(22)]
        offer = next((tbs for tbs in offers if sm3(tbs) == deal[1]["offer"]), None)
        if offer is None:
            raise Bad("unknown", "no offer of this contract")
        again, _ = money.bill(no, self.pool, deal[1]["buyer"], deal, offer, records, named, deal[1]["contractValue"]["amount"])
        self.bills[bill["number"]] = (height, octets, bill)
        if again != decode("Entry", octets)["body"]:
            raise Bad("amount", "the bill is not the one that follows from the usage")
        return True

    def judge_payment(self, payment):
        """The confirmation in it is our own envelope, byte for byte."""
        inner = unseal(payment["confirmation"], lambda cert_id, _: self.signer.certificate if cert_id == self.signer.id.hex() else None,
                       PAYMENT_QUESTION, "platform", self.pool)
        said = inner["body"]["ok"]
        if said["state"] != "paid" or said["bill_no"] != payment["number"] or said["amount_cny"] != money.decimal(payment["amount"]):
            raise Bad("amount", "the confirmation does not say this")

    # ------------------------------------------------------------ what the platform asks

    def ask(self, iface, body, limit_s=30, **changes):
        """Sends a request, the same octets every 2 s, until its answer is there; its body and the envelope."""
        sent, message_id = seal(self.signer, iface, "platform", self.pool, body, **changes)
        return self.send(iface, sent, message_id, limit_s)

    def send(self, iface, sent, message_id, limit_s=30):
        seen = len(self.answers)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.link.publish(self.topic(f"down/{iface}"), sent)
            again = time.monotonic() + 2
            while time.monotonic() < again:
                self.turn()
                for name, inner, payload in self.answers[seen:]:
                    if name == iface and inner.get("re") == message_id:
                        return inner["body"], payload
        raise RuntimeError(f"{iface} was not answered within {limit_s} s")

    def publish_demand(self, buyer, wanted, valid_s=300):
        """Section 9a: the number is of the content; signed by the platform, which passes it on."""
        now = time.time_ns()
        value = {
            "version": 1, "demandNo": bytes(16), "buyer": buyer, "relay": f"{self.site}/platform", "time": now,
            "validUntil": now + valid_s * 10**9, "pools": [self.pool], "template": "plain", "attributes": [],
            "termNs": 10 * 10**9, "startFrom": now, "startUntil": now + 3600 * 10**9} | wanted
        value["demandNo"] = sm3(encode("Demand", value))[:16]
        tbs = encode("Demand", value)
        self.demands.append((self.signer.signed(tbs), value["validUntil"]))
        self.taken[value["demandNo"].hex()] = {"no": value["demandNo"], "digest": sm3(tbs), "until": value["validUntil"]}
        return value["demandNo"].hex()
