"""Envelopes, topics and the link, from docs/if2.md sections 1 to 4."""
import base64
import datetime
import json
import queue
import re
import threading
import time

import paho.mqtt.client as mqtt
from evidence import Bad, Certificate, check_chain, sm3

MESSAGE_MAX = 65_536
MEMBERS, INNER = {"v", "payload", "cert_id", "sig"}, {"id", "iface", "from", "to", "at", "body"}
QUESTIONS = ("payment-confirm", "fetch", "auth-code", "token", "user-info", "demands", "refund-amount", "bill-query")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    if not isinstance(text, str) or not re.fullmatch("[A-Za-z0-9_-]*", text):
        raise Bad("malformed", "no base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(data) != text:
        raise Bad("malformed", "base64url with spare bits")
    return data


def rfc3339(ns):
    at = datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{ns % 10**9:09d}".rstrip("0") if ns % 10**9 else ""
    return at + fraction + "Z"


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def seal(signer, iface, sender, to, body, /, re_id=None, asked=None, **changes):
    """An envelope's octets (section 2) and the id inside (section 3); `changes` replace or add members of the payload."""
    text = dumps(body)
    content = iface.encode() + b"\x00" + text.encode()
    if iface in QUESTIONS and re_id is None:
        content += (time.time_ns() if asked is None else asked).to_bytes(8, "big")
    payload = {"id": sm3(content)[:16].hex(), "iface": iface, "from": sender, "to": to, "at": rfc3339(time.time_ns())}
    if re_id is not None:
        payload["re"] = re_id
    payload["body"] = body
    payload.update(changes)
    payload = {name: value for name, value in payload.items() if value is not None}
    return envelope(signer, dumps(payload).encode()), payload.get("id")


def envelope(signer, payload, /, **changes):
    """An envelope around octets; the signature is over the characters of `payload`."""
    text = b64(payload)
    made = {"v": 1, "payload": text, "cert_id": signer.id.hex(), "sig": b64(signer.sign(text.encode()))}
    made.update(changes)
    return dumps({name: value for name, value in made.items() if value is not None}).encode()


def unseal(data, certificates, iface, sender, to):
    """The payload of an envelope, in the order of section 2. `certificates` is asked for the signer's."""
    if len(data) > MESSAGE_MAX:
        raise Bad("malformed", "longer than a message may be")
    try:
        outer = json.loads(data)
    except ValueError:
        raise Bad("malformed", "no JSON") from None
    if not isinstance(outer, dict) or set(outer) != MEMBERS or outer["v"] != 1:
        raise Bad("malformed", "no envelope of version 1")
    try:
        inner = json.loads(unb64(outer["payload"]).decode())
    except ValueError:
        raise Bad("malformed", "the payload is no JSON") from None
    signer = certificates(outer["cert_id"], inner)
    if signer is None:
        raise Bad("certificate", "the signer is not known here")
    if not signer.verifies(outer["payload"].encode(), unb64(outer["sig"])):
        raise Bad("signature", "the envelope is not signed by that key")
    if not isinstance(inner, dict) or not INNER <= set(inner) <= INNER | {"re", "expires", "token"}:
        raise Bad("malformed", "members of the payload")
    if (inner["iface"], inner["from"], inner["to"]) != (iface, sender, to):
        raise Bad("malformed", f"another iface, from or to: {inner['iface']} {inner['from']} {inner['to']}")
    return inner


class Known:
    """The node's certificates: by its chain in a message that introduces it, or by its log (sections 2 and 5.1)."""

    def __init__(self, pool, anchor):
        self.pool, self.anchor, self.by_id = pool, anchor, {}

    def introduce(self, chain):
        leaf = check_chain(chain, self.anchor)
        if not leaf.is_of(self.pool):
            raise Bad("certificate", f"it does not name {self.pool}: {leaf.names()}")
        self.by_id[leaf.id] = leaf
        return leaf

    def __call__(self, cert_id, inner):
        wanted = bytes.fromhex(cert_id) if isinstance(cert_id, str) and re.fullmatch("[0-9a-f]{64}", cert_id) else None
        body = inner.get("body") if isinstance(inner, dict) else None
        chain = body.get("certificates") if isinstance(body, dict) and inner.get("iface") in ("product-report", "fetch") else None
        if wanted not in self.by_id and chain:
            chain = [unb64(one) for one in chain]
            if Certificate(chain[0]).id == wanted:
                self.introduce(chain)
        return self.by_id.get(wanted)


class Link:
    """The platform's connection (section 1): not clean, QoS 1, a will, and a message is acknowledged only after it was handled."""

    def __init__(self, host, port, site):
        self.site, self.boot, self.session = site, int(time.time()), 0
        self.inbox, self.ready = queue.Queue(), threading.Event()
        self.filters = [f"hufu/v1/{site}/+/{rest}" for rest in ("up/+", "down/+/re", "presence", "products")]
        client = self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, f"hufu-platform-{site}", clean_session=False, protocol=mqtt.MQTTv311, manual_ack=True)
        client.on_connect, client.on_subscribe, client.on_message = self.connected, self.subscribed, self.heard
        client.will_set(self.state_topic, self.state("lost", 1), qos=1, retain=True)
        client.connect(host, port, keepalive=30)
        client.loop_start()
        if not self.ready.wait(30):
            raise RuntimeError("no SUBACK within 30 s")

    @property
    def state_topic(self):
        return f"hufu/v1/{self.site}/platform/state"

    def state(self, state, session):
        return dumps({"state": state, "boot": self.boot, "session": session})

    def connected(self, client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            raise RuntimeError(f"the broker refuses: {reason}")
        self.session += 1
        client.subscribe([(one, 1) for one in self.filters])

    def subscribed(self, client, _userdata, _mid, reasons, _properties):
        if any(reason.is_failure for reason in reasons):
            client.disconnect()
            raise RuntimeError("the broker's access list is wrong")
        client.publish(self.state_topic, self.state("online", self.session), qos=1, retain=True)
        self.ready.set()

    def heard(self, _client, _userdata, message):
        self.inbox.put(message)

    def publish(self, topic, payload):
        self.client.publish(topic, payload, qos=1)

    def close(self):
        self.client.publish(self.state_topic, self.state("offline", self.session), qos=1, retain=True).wait_for_publish(10)
        self.client.disconnect()
        self.client.loop_stop()
