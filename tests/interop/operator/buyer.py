"""What a buyer signs, and what it checks before it does: docs/evidence.md section 4, docs/if2.md sections 5.2 to 5.4."""
import secrets
import time

from evidence import Bad, check_chain, decode, encode, entry_hash, opened, sm3
from wire import b64, unb64


class Purchase:
    """One contract of a buyer with a node."""

    def __init__(self, buyer, pool, product, anchor):
        self.buyer, self.pool, self.product, self.anchor = buyer, pool, product, anchor
        self.nonce = secrets.token_bytes(16)
        self.at = time.time_ns()
        self.no = self.number(self.at)

    def number(self, at):
        return sm3(encode("ContractNoInput", {"buyer": self.buyer.id, "pool": self.pool, "nonce": self.nonce, "time": at}))[:16]

    def statement(self, con_type, at=None, **more):
        return encode("Statement", {
            "version": 1, "conType": con_type, "contractNo": self.no, "contractTime": time.time_ns() if at is None else at,
            "computingPoolId": self.pool, "buyer": self.buyer.id} | more)

    def signed(self, statement):
        return {"statement": b64(statement), "signature": b64(self.buyer.sign(statement))}

    def browse(self, at=None):
        """Body of `browse`."""
        if at is not None:
            self.no = self.number(at)
        said = self.statement(1, self.at if at is None else at, nonce=self.nonce)
        self.browsed = self.signed(said) | {"certificates": [b64(one) for one in self.buyer.chain], "product_id": self.product}
        return self.browsed

    def take_offer(self, ok):
        """Section 5.2: what a buyer checks before it signs an order."""
        leaf = check_chain([unb64(one) for one in ok["certificates"]], self.anchor)
        if not leaf.is_of(self.pool):
            raise Bad("certificate", "the offer is not of the node")
        self.offer, self.offer_tbs = opened("Offer", unb64(ok["offer"]), leaf)
        wanted = (self.no, self.pool, self.buyer.id, self.product)
        if tuple(self.offer[name] for name in ("contractNo", "computingPoolId", "buyer", "productId")) != wanted:
            raise Bad("offer", "an offer of something else")
        entry = unb64(ok["entry"])
        inside = decode("SignedStatement", decode("Entry", entry)["body"])
        if entry_hash(entry) != self.offer["browse"] or b64(inside["statement"]) != self.browsed["statement"] or b64(
                inside["signature"]) != self.browsed["signature"]:
            raise Bad("offer", "the offer does not rest on this browse")
        if sm3(ok["rules"].encode()) != self.offer["rules"]:
            raise Bad("offer", "other rules than the offer's")
        if not self.offer["validFrom"] <= time.time_ns() < self.offer["validUntil"]:
            raise Bad("offer", "not valid now")
        self.browse_entry = entry

    def order(self, term_s, ceiling_cny, **changes):
        """Body of `order`."""
        requirement = {
            "catalogueRevision": self.offer["catalogueRevision"], "items": [{"productId": self.product, "quantity": 1}],
            "termNs": int(term_s * 10**9), "tariff": sm3(encode("Tariff", self.offer["tariff"]))} | changes
        said = self.statement(
            2, offer=sm3(self.offer_tbs), follows=entry_hash(self.browse_entry), requirement=requirement,
            contractValue={"payment": "postpaid", "amount": ceiling_cny * 10**8})
        return self.signed(said)

    def take_deal(self, ok):
        self.deal_entry = unb64(ok["entry"])
        self.deal = decode("Deal", decode("Entry", self.deal_entry)["body"])

    def score(self, overall, items):
        """Body of `score`."""
        follows = entry_hash(self.deal_entry) if hasattr(self, "deal_entry") else bytes(32)
        card = {"overall": overall, "items": [{"code": code, "score": score} for code, score in items]}
        return self.signed(self.statement(4, offer=sm3(self.offer_tbs), follows=follows, score=card))

    def notice(self, act, signer=None, at=None, **more):
        """Body of `order-change`; docs/evidence.md section 9."""
        said = encode("Notice", {
            "version": 1, "contractNo": self.no, "computingPoolId": self.pool, "deal": entry_hash(self.deal_entry), "act": act,
            "time": time.time_ns() if at is None else at, "why": ""} | more)
        return {"notice": b64((signer or self.buyer).signed(said))}
