"""Every kind of wrong message that docs/if2.md names, sent to a node, and what the document says comes of it: an answer with a code, or
an alarm and no answer (a message that cannot be opened), or neither (a topic that is none).
"""
import json
import secrets
import time

from buyer import Purchase
from evidence import DISTID, OPENSSL, Signer, decode, encode
from wire import b64, dumps, envelope, rfc3339, seal

HOUR = 3_600_000_000_000


class Wrong:
    def __init__(self, platform, purchase, status, args):
        self.platform, self.purchase, self.status, self.args = platform, purchase, status, args
        self.buyer = purchase.buyer
        self.told, self.failed = {}, []

    def check(self, name, is_so, why):
        """Notes what is not as the document says; one run tells all of it."""
        if not is_so:
            self.failed.append(f"{name}: {why if isinstance(why, str) else json.dumps(why, ensure_ascii=False)}")

    # ------------------------------------------------------------ three ways to look

    def refused(self, name, iface, body, code, field=None):
        """The node answers with this code (and field, where the document names one)."""
        said, _ = self.platform.ask(iface, body)
        error = said.get("error", {})
        self.check(name, error.get("code") == code and (field is None or error.get("field") == field), said)
        self.check(name, set(error) <= {"code", "field", "remedy"} and set(error.get("remedy", {})) == {"en", "zh"}, said)
        self.told[name] = code

    def count(self):
        return int(self.status()["alarm_count"])

    def alarm(self, name, iface, payload, what="message refused", topic=None):
        """No answer, and the node raises this alarm."""
        before, answered = self.count(), len(self.platform.answers)
        self.platform.link.publish(self.platform.topic(topic or f"down/{iface}"), payload)
        try:
            self.platform.until(f"the alarm of: {name}", lambda: self.count() > before, 10)
        except RuntimeError as error:
            self.check(name, False, f"{error}; answered: {[one[1]['body'] for one in self.platform.answers[answered:]]}")
            return
        newest = self.status()["alarms"][-1]
        self.check(name, what in (None, newest["what"]), newest)
        self.check(name, len(self.platform.answers) == answered, [one[1] for one in self.platform.answers[answered:]])
        self.told[name] = f"alarm: {newest['detail']}"

    def ignored(self, name, topic, sealed, padding=b""):
        """No answer and no alarm. What is sent behind it is answered, so it was taken in and not waited for."""
        payload, message_id = sealed
        before, answered = self.count(), len(self.platform.answers)
        self.platform.link.publish(self.platform.topic(topic), payload + padding)
        self.platform.ask("refund-amount", {"contract_no": secrets.token_hex(16)})
        said = [inner["body"] for _, inner, _ in self.platform.answers[answered:] if inner.get("re") == message_id]
        self.check(name, self.count() == before and not said, said or self.status()["alarms"][-1:])
        self.told[name] = "ignored"

    # ------------------------------------------------------------ envelopes (section 2)

    def envelopes(self):
        platform, pool = self.platform, self.platform.pool
        body = {"contract_no": secrets.token_hex(16)}
        iface = "refund-amount"
        good = lambda **changes: seal(platform.signer, iface, "platform", pool, body, **changes)[0]
        outer = lambda **changes: dumps({name: value for name, value in (json.loads(good()) | changes).items() if value is not None}).encode()
        inner = lambda text: envelope(platform.signer, text)
        said = json.loads(good())
        first = "A" if said["payload"][-1] != "A" else "Q"
        for name, payload in {
            "no JSON": b"hello",
            "an empty message": b"",
            "unsigned": outer(sig=None),
            "an empty signature": outer(sig=""),
            "altered": dumps(said | {"payload": said["payload"][:40] + ("A" if said["payload"][40] != "A" else "B") + said["payload"][41:]}).encode(),
            "spare bits of base64url": dumps(said | {"payload": said["payload"] + first}).encode(),
            "padded base64url": outer(payload=said["payload"] + "="),
            "signed by another under the platform's name": outer(sig=b64(self.buyer.sign(said["payload"].encode()))),
            "signed by another": seal(self.buyer, iface, "platform", pool, body)[0],
            "version 2": outer(v=2),
            "one more member": outer(more=1),
            "a wrong `to`": good(to="s9/n9"),
            "another `iface`": good(iface="bill-query"),
            "no `at`": good(at=None),
            "one more member of the payload": good(more=1),
            "an id of 65 characters": good(id="a" * 65),
            "an empty id": good(id=""),
            "a payload that is no JSON": inner(b"hello"),
            "a payload that is no UTF-8": inner(b'{"id":"\xff"}'),
            
            "a body with one more member": seal(platform.signer, iface, "platform", pool, body | {"more": 1})[0],
            "a body without its member": seal(platform.signer, iface, "platform", pool, {})[0],
        }.items():
            self.alarm(name, iface, payload)
        whole = lambda: seal(platform.signer, iface, "platform", pool, body)
        self.ignored("an unknown interface", "down/nonsense", whole())
        self.ignored("an interface of the other direction", "down/bill-push", whole())
        self.ignored("a topic of another form", "down/refund-amount/more", whole())
        # Good in every other way: white space behind JSON is JSON.
        self.ignored("more than 65 536 octets", f"down/{iface}", whole(), b" " * 65_536)
        answer, _ = platform.ask(iface, body, expires=rfc3339(time.time_ns() - HOUR))
        assert answer["error"]["code"] == "unknown", answer
        self.told["a time that `expires` names has passed"] = "answered"

    # ------------------------------------------------------------ bodies (section 5)

    def fresh(self, product=None):
        return Purchase(self.buyer, self.platform.pool, product or self.purchase.product, self.args.trust)

    def stranger(self):
        """A buyer whose certificate leads to no anchor."""
        key = OPENSSL.file(OPENSSL.must("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"))
        words = ["-new", "-x509", "-key", key, "-sm3", "-sigopt", DISTID, "-subj", "/CN=stranger", "-days", "1", "-addext", "keyUsage=digitalSignature"]
        return Signer(key, OPENSSL.file(OPENSSL.must("req", *words)))

    def before_the_order(self):
        """While the contract is offered and not ordered."""
        platform, refused = self.platform, self.refused
        self.envelopes()
        body = self.purchase.browsed
        again, _ = platform.ask("browse", body)
        assert again["ok"]["entry"] == b64(self.purchase.browse_entry), "the same browse gets the same entry"
        refused("browse: another product under this number", "browse", body | {"product_id": "other"}, "duplicate")
        refused("browse: no such product", "browse", self.fresh("other").browse(), "unknown")
        refused("browse: no statement", "browse", body | {"statement": b64(b"\x30\x00")}, "malformed")
        refused("browse: two hours old", "browse", self.fresh().browse(time.time_ns() - 2 * HOUR), "offer", "contractTime")
        forged = self.fresh().browse()
        refused("browse: another's signature", "browse", forged | {"signature": body["signature"]}, "signature")
        stranger = self.stranger()
        refused("browse: an unknown certificate", "browse", Purchase(stranger, platform.pool, self.purchase.product, self.args.trust).browse(), "certificate")
        no = self.purchase.no.hex()
        refused("refund-amount: no deal yet", "refund-amount", {"contract_no": no}, "state")
        refused("refund-amount: no such contract", "refund-amount", {"contract_no": secrets.token_hex(16)}, "unknown")
        refused("refund-amount: no number", "refund-amount", {"contract_no": "first"}, "malformed")
        refused("bill-query: no such contract", "bill-query", {"contract_no": secrets.token_hex(16)}, "unknown")
        refused("bill-query: no such bill", "bill-query", {"contract_no": no, "after": no + "-1"}, "unknown", "after")
        refused("bill-query: no number", "bill-query", {"contract_no": "first"}, "malformed")
        order = self.purchase.order(10, 1000)
        refused("order: no statement", "order", order | {"statement": b64(b"\x30\x00")}, "malformed")
        refused("order: another's signature", "order", order | {"signature": body["signature"]}, "signature")
        refused("order: a longer term than offered", "order", self.purchase.order(400 * 86_400, 1000), "offer")
        items = [{"productId": self.purchase.product, "quantity": self.purchase.offer["stock"] + 1}]
        refused("order: more than the stock", "order", self.purchase.order(10, 1000, items=items), "offer")
        refused("order: another tariff", "order", self.purchase.order(10, 1000, tariff=bytes(32)), "offer")
        unknown = self.fresh()
        unknown.offer, unknown.offer_tbs, unknown.browse_entry = self.purchase.offer, self.purchase.offer_tbs, self.purchase.browse_entry
        refused("order: no such contract", "order", unknown.order(10, 1000), "unknown")
        refused("score: no deal yet", "score", self.purchase.score(9300, [(0, 95), (1, 90)]), "state")

    def after_the_deal(self, ordered, deal):
        """While the contract is served."""
        platform, refused, purchase = self.platform, self.refused, self.purchase
        again, _ = platform.ask("order", ordered)
        assert {name: again["ok"][name] for name in ("entry", "height", "index")} == {
            name: deal[name] for name in ("entry", "height", "index")}, "the same order gets the same deal"
        refused("order: another one for this contract", "order", purchase.order(11, 1000), "duplicate")
        refused("score: service is not over", "score", purchase.score(9300, [(0, 95), (1, 90)]), "state")
        refused("order-change: no notice", "order-change", {"notice": b64(b"\x30\x00")}, "malformed")
        refused("order-change: not allowed in this state", "order-change", purchase.notice("resume"), "state")
        refused("order-change: none of the table's acts", "order-change", purchase.notice("dance"), "state")
        refused("order-change: the buyer's act, signed by the platform", "order-change", purchase.notice("suspend", platform.signer), "signature")
        refused("order-change: signed by a stranger", "order-change", purchase.notice("suspend", self.stranger()), "signature")
        refused("order-change: two hours old", "order-change", purchase.notice("suspend", at=time.time_ns() - 2 * HOUR), "offer")
        refused("order-change: another deal", "order-change", purchase.notice("suspend", deal=bytes(32)), "malformed")
        refused("order-change: no such contract", "order-change", purchase.notice("suspend", contractNo=secrets.token_bytes(16)), "unknown")
        refused("order-change: no such bill", "order-change", purchase.notice("dispute", bill=bytes(32)), "unknown", "bill")
        renewal = {"termNs": 10**10, "contractValue": {"payment": "postpaid", "amount": 1}}
        refused("order-change: a lower ceiling", "order-change", purchase.notice("renew", renewal=renewal), "offer")
        refused("refund-amount: before the term", "refund-amount", {"contract_no": purchase.no.hex(), "at": "2020-01-01T00:00:00Z"}, "offer", "at")
        refused("refund-amount: no time", "refund-amount", {"contract_no": purchase.no.hex(), "at": "yesterday"}, "malformed")

    def no_stock(self):
        """Two offers for all that is free: the second order finds nothing. The first one ends by itself."""
        platform = self.platform
        stock = lambda: next(product["stock"] for product in platform.catalogue["products"] if product["id"] == self.purchase.product)
        first, second = self.fresh(), self.fresh()
        for one in (first, second):
            said, _ = platform.ask("browse", one.browse())
            one.take_offer(said["ok"])
        everything = [{"productId": self.purchase.product, "quantity": first.offer["stock"]}]
        said, _ = platform.ask("order", first.order(2, 1000, items=everything))
        self.check("order: all that is free", "ok" in said, said)
        self.refused("order: nothing is free any more", "order", second.order(2, 1000), "stock", "requirement")
        platform.until("the first order is over", lambda: stock() == first.offer["stock"], 60)

    def on_the_way(self):
        """What the node does with an answer that names another question, and with an error that says `unknown`."""
        platform = self.platform
        late = lambda answer, _: seal(platform.signer, "fetch", "platform", platform.pool, answer, re_id="late")[0]
        platform.bend["fetch"] = late
        platform.until("it asks again", lambda: platform.seen.get("up/fetch", 0) >= 2, 30)
        self.told["fetch: an answer that names another question"] = "asked again"
        unknown = {"error": {"code": "unknown", "remedy": {"en": "not here yet", "zh": "尚未到达"}}}
        number = self.purchase.no.hex() + "-1"
        platform.bend["bill-push"] = lambda answer, re_id: answer["ok"]["bill_no"] == number and seal(
            platform.signer, "bill-push", "platform", platform.pool, unknown, re_id=re_id)[0]

    def after_the_bill(self, number):
        """While the bill is not paid: scores, and a payment of another amount."""
        platform, refused, purchase = self.platform, self.refused, self.purchase
        before = platform.seen["up/bill-push"]
        platform.until("the bill is pushed again", lambda: platform.seen["up/bill-push"] > before, 30)
        self.told["bill-push: unknown"] = "sent again"
        refused("score: another sum", "score", purchase.score(9299, [(0, 95), (1, 90)]), "amount", "overall")
        refused("score: not each priced kind", "score", purchase.score(9500, [(0, 95)]), "malformed")
        paid = lambda answer, re_id, **changes: seal(platform.signer, "payment-confirm", "platform", platform.pool, {"ok": {
            "bill_no": number, "state": "paid", "amount_cny": "0.01", "paid_at": rfc3339(time.time_ns())} | changes}, re_id=re_id)[0]
        self.spoiled("payment-confirm: another amount", "payment-confirm", paid)
        assert not platform.logs[1].of_kind(42), "a payment of another amount is none"

    def the_link(self):
        """Answers and receipts that are not what was asked."""
        platform = self.platform
        elsewhere = lambda receipt: platform.signer.signed(encode("Receipt", receipt | {"root": bytes(32)}))
        self.alarm("a receipt of another root", "blocks", elsewhere(self.receipt()), "receipt has another root than this ledger", "up/blocks/re")
        other = self.buyer.signed(encode("Receipt", self.receipt()))
        self.alarm("a receipt of another signer", "blocks", other, topic="up/blocks/re")
        self.alarm("a receipt of another node", "blocks", platform.signer.signed(encode("Receipt", self.receipt() | {"computingPoolId": "s9/n9"})), topic="up/blocks/re")
        before = platform.token_count
        platform.tokens.clear()
        platform.until("the node asks for another token", lambda: platform.token_count > before, 60)
        self.told["a token that was logged out"] = "asked for another"
        forged = {"demands": [b64(self.buyer.signed(decode("Signed", platform.demands[0][0])["tbs"]))], "last": 3, "more": False}
        answer = lambda iface, ok: seal(platform.signer, iface, "platform", platform.pool, {"ok": ok}, re_id="late")[0]
        self.alarm("demands: one of another signer", "demands", answer("demands", forged), what=None, topic="up/demands/re")

    def receipt(self):
        return decode("Receipt", decode("Signed", platform_receipt(self.platform))["tbs"])

    def spoiled(self, name, iface, bend):
        """The next answer to the node is this one: an alarm, and the node asks on."""
        before, asked = self.count(), self.platform.seen.get(f"up/{iface}", 0)
        self.platform.bend[iface] = bend
        self.platform.until(f"the alarm of: {name}", lambda: self.count() > before, 60)
        self.told[name] = f"alarm: {self.status()['alarms'][-1]}"
        self.platform.until(f"it asks on: {name}", lambda: self.platform.seen.get(f"up/{iface}", 0) > asked + 1, 60)


def platform_receipt(platform):
    return platform.receipt(0, len(platform.logs[0]))
