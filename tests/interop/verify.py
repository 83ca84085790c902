#!/usr/bin/env python3
"""Verifies evidence packs with Python's standard library and the openssl command, and nothing of Hufu's.

Written from docs/evidence.md, docs/evidence.asn1 and docs/if2.md: section numbers below are those of docs/evidence.md. It reaches
the four verdicts of section 10 (signatures, completeness, data quality, arithmetic) and must agree with `hufu verify` on each.

    verify.py --trust CA.pem [--trust OTHER.pem] [--json] PACK.zip [PACK.zip ..]

With --json one object a line for each pack. Exit status: 0 nothing fails, 1 a verdict fails, 2 wrong usage, 65 no pack in the
file, 74 a file cannot be read; of several packs the largest. OpenSSL checks every SM2 signature; DER, certificate chains,
hash trees, the chain of records and the bill are checked here. Python 3.11 or later, OpenSSL 3.
"""
import argparse
import base64
import bisect
import concurrent.futures
import datetime
import functools
import hashlib
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import tomllib
import zlib
import zoneinfo

# ---------------------------------------------------------------- SM3 (GB/T 32905)


def sm3_slow(data):
    """SM3 for a Python whose hashlib lacks it."""
    mask = 0xFFFFFFFF
    rotate = lambda x, n: (x << n % 32 | x >> (32 - n % 32)) & mask if n % 32 else x
    state = [0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600, 0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E]
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack(">Q", 8 * len(data))
    for at in range(0, len(padded), 64):
        w = list(struct.unpack(">16I", padded[at:at + 64]))
        for j in range(16, 68):
            x = w[j - 16] ^ w[j - 9] ^ rotate(w[j - 3], 15)
            w.append(x ^ rotate(x, 15) ^ rotate(x, 23) ^ rotate(w[j - 13], 7) ^ w[j - 6])
        a, b, c, d, e, f, g, h = state
        for j in range(64):
            ss1 = rotate((rotate(a, 12) + e + rotate(0x79CC4519 if j < 16 else 0x7A879D8A, j)) & mask, 7)
            ff = a ^ b ^ c if j < 16 else a & b | a & c | b & c
            gg = e ^ f ^ g if j < 16 else e & f | ~e & mask & g
            tt1 = (ff + d + (ss1 ^ rotate(a, 12)) + (w[j] ^ w[j + 4])) & mask
            tt2 = (gg + h + ss1 + w[j]) & mask
            d, c, b, a = c, rotate(b, 9), a, tt1
            h, g, f, e = g, rotate(f, 19), e, tt2 ^ rotate(tt2, 9) ^ rotate(tt2, 17)
        state = [x ^ y for x, y in zip(state, (a, b, c, d, e, f, g, h))]
    return struct.pack(">8I", *state)


def sm3(data):
    return hashlib.new("sm3", data).digest() if "sm3" in hashlib.algorithms_available else sm3_slow(data)


def entry_hash(entry):
    return sm3(b"\x00" + entry)


# ---------------------------------------------------------------- DER (section 1) and the types of evidence.asn1


class Bad(Exception):
    """Bytes that are not what they should be."""


def tlv(data, at, end):
    """Tag, start and end of the value at `at`; only the shortest definite length."""
    if at + 2 > end or data[at] & 31 == 31:
        raise Bad("truncated DER")
    length, start = data[at + 1], at + 2
    if length > 127:
        count = length - 128
        length = int.from_bytes(data[start:start + count], "big")
        start += count
        if not 1 <= count <= 4 or start > end or length < 128 or length >> 8 * (count - 1) == 0:
            raise Bad("length not in its only form")
    if start + length > end:
        raise Bad("truncated DER")
    return data[at], start, start + length


class Rec(dict):
    """A decoded SEQUENCE; fields are attributes, an absent one is None. `octets` is its content."""
    __slots__ = ("octets",)
    __getattr__ = dict.__getitem__


def integer(low, high, tag=0x02):
    def read(data, start, end):
        content = data[start:end]
        value = int.from_bytes(content, "big", signed=True)
        spare = len(content) > 1 and (content[0] == 0 and content[1] < 128 or content[0] == 255 and content[1] > 127)
        if not content or spare or not low <= value <= high:
            raise Bad("integer out of range or not in its only form")
        return value
    return tag, read


def enumerated(count):
    return integer(0, count - 1, 0x0A)


def octets(size=None):
    def read(data, start, end):
        if size is not None and end - start != size:
            raise Bad("octets of another length")
        return data[start:end]
    return 0x04, read


def read_text(data, start, end):
    try:
        return data[start:end].decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("not UTF-8") from None


def list_of(kind):
    def read(data, start, end):
        values = []
        while start < end:
            tag, inner, start = tlv(data, start, end)
            if tag != kind[0]:
                raise Bad("another type in a list")
            values.append(kind[1](data, inner, start))
        return values
    return 0x30, read


ABSENT = "optional"


def sequence(*fields):
    """Fields are (name, type), (name, type, ABSENT) for OPTIONAL, (name, type, N) for [N] IMPLICIT OPTIONAL."""
    plan = []
    for name, (tag, read), *how in fields:
        context = (tag & 0x20 | 0x80 | how[0]) if how and how[0] is not ABSENT else tag
        plan.append((name, context, read, bool(how)))

    def read(data, start, end):
        value, at = Rec(), start
        for name, tag, inner, optional in plan:
            if at < end and data[at] == tag:
                _, first, at = tlv(data, at, end)
                value[name] = inner(data, first, at)
            elif optional:
                value[name] = None
            else:
                raise Bad(f"no {name}")
        if at != end:
            raise Bad("more fields than the type has")
        value.octets = data[start:end]
        return value
    return 0x30, read


def decode(kind, data):
    tag, start, end = tlv(data, 0, len(data))
    if tag != kind[0] or end != len(data):
        raise Bad("another type, or trailing bytes")
    return kind[1](data, start, end)


def decoded(kind, data):
    """The value, or None."""
    try:
        return decode(kind, data)
    except Bad:
        return None


U8, U16, U32, U64 = (integer(0, 2**n - 1) for n in (8, 16, 32, 64))
QUANTITY, MONEY = integer(0, 2**128 - 1), integer(-2**127, 2**127 - 1)
TIME, VERSION, DIGEST, TEXT, BYTES = integer(-2**63, 2**63 - 1), integer(1, 1), octets(32), (0x0C, read_text), octets()
NO, LOG = octets(16), enumerated(2)

SIGNED = sequence(("tbs", BYTES), ("certId", DIGEST), ("signature", BYTES))
TIME_QUALITY = sequence(("state", enumerated(4)), ("maxErrorNs", U64, ABSENT))
ENTRY = sequence(("salt", octets(16)), ("kind", U16), ("body", BYTES))
HEADER = sequence(
    ("version", VERSION), ("log", LOG), ("node", TEXT), ("epoch", U64), ("height", U64), ("previous", DIGEST), ("time", TIME),
    ("quality", TIME_QUALITY), ("root", DIGEST), ("count", U32))
CHECKPOINT = sequence(
    ("version", VERSION), ("log", LOG), ("node", TEXT), ("epoch", U64), ("size", U64), ("root", DIGEST), ("time", TIME))
ENTRY_NAME = sequence(("log", U8), ("height", U64), ("index", U32), ("hash", DIGEST))
RESERVATION = sequence(("resource", TEXT), ("quantity", U64))
REQUIREMENT = sequence(
    ("catalogueRevision", U64), ("items", list_of(sequence(("productId", TEXT), ("quantity", U32)))), ("termNs", U64),
    ("tariff", DIGEST), ("parent", sequence(("parentNo", NO), ("payable", enumerated(2)), ("children", U32)), 0))
CONTRACT_VALUE = sequence(("payment", enumerated(2)), ("amount", MONEY))
SCORE_CARD = sequence(("overall", U16), ("items", list_of(sequence(("code", U8), ("score", U8)))))
STATEMENT = sequence(
    ("version", VERSION), ("conType", U8), ("contractNo", NO), ("contractTime", TIME), ("computingPoolId", TEXT),
    ("buyer", DIGEST), ("nonce", octets(16), 0), ("offer", DIGEST, 1), ("follows", DIGEST, 2), ("requirement", REQUIREMENT, 3),
    ("contractValue", CONTRACT_VALUE, 4), ("score", SCORE_CARD, 5))
SIGNED_STATEMENT = sequence(("statement", BYTES), ("signature", BYTES), ("certificates", list_of(BYTES)))
TIER = sequence(("upTo", QUANTITY, 0), ("price", MONEY))
PRICE = sequence(("resource", TEXT), ("per", TEXT), ("scheme", enumerated(3)), ("tiers", list_of(TIER)))
TARIFF = sequence(
    ("version", VERSION), ("currency", TEXT), ("rounding", TEXT), ("calendar", TEXT), ("prices", list_of(PRICE)))
OFFER = sequence(
    ("version", VERSION), ("contractNo", NO), ("computingPoolId", TEXT), ("buyer", DIGEST), ("browse", DIGEST),
    ("productId", TEXT), ("catalogueRevision", U64), ("stock", U32), ("termNsMax", U64), ("validFrom", TIME),
    ("validUntil", TIME), ("tariff", TARIFF),
    ("metered", list_of(sequence(("resource", TEXT), ("source", TEXT), ("whyNot", TEXT, ABSENT)))), ("windowNs", U64),
    ("reserves", list_of(sequence(("resource", TEXT), ("quantity", U64)))), ("rules", DIGEST), ("fingerprint", DIGEST, 0))
COUNTERSIGNATURE = sequence(("statement", DIGEST), ("buyerSignature", DIGEST), ("computingPoolId", TEXT), ("time", TIME))
DEAL = sequence(
    ("version", VERSION), ("conType", U8), ("contractNo", NO), ("contractTime", TIME), ("computingPoolId", TEXT),
    ("buyer", DIGEST), ("order", ENTRY_NAME), ("offer", DIGEST), ("requirement", REQUIREMENT),
    ("contractValue", CONTRACT_VALUE), ("buyerSignature", BYTES), ("countersignature", SIGNED), ("serviceEnd", TIME))
RULES = sequence(("version", VERSION), ("text", TEXT))
RENEWAL = sequence(("termNs", U64), ("contractValue", CONTRACT_VALUE))
NOTICE = sequence(
    ("version", VERSION), ("contractNo", NO), ("computingPoolId", TEXT), ("deal", DIGEST), ("act", TEXT), ("time", TIME),
    ("bill", DIGEST, 0), ("renewal", RENEWAL, 1), ("why", TEXT))
ORDER_STATUS = sequence(
    ("version", VERSION), ("contractNo", NO), ("act", TEXT), ("from", TEXT), ("to", TEXT), ("time", TIME), ("why", TEXT))
ALLOCATION = sequence(
    ("version", VERSION), ("contractNo", NO), ("time", TIME), ("devices", list_of(sequence(("resource", TEXT), ("id", TEXT)))))
SOURCE = (("source", TEXT), ("path", TEXT), ("instance", U64))
IDENTITY = sequence(("bootId", octets(16)), *SOURCE, ("resolved", TEXT, 0), ("attached", list_of(sequence(*SOURCE)), 1))
READING = sequence(
    ("code", U8), ("qualifier", TEXT, 0), ("status", enumerated(3)), ("delta", QUANTITY, 1), ("total", QUANTITY, 2),
    ("why", TEXT, 3))
RECORD = sequence(
    ("version", VERSION), ("contractNo", NO), ("orderSeq", U64), ("previous", DIGEST), ("start", TIME), ("end", TIME),
    ("reason", enumerated(7)), ("elapsedNs", U64), ("quality", TIME_QUALITY), ("meter", octets(16)), ("identity", IDENTITY, 0),
    ("why", TEXT, 1), ("readings", list_of(READING)),
    ("delivered", list_of(sequence(("code", U8), ("delta", U64, 0), ("total", U64, 1), ("why", TEXT, 2))), 2))
WINDOW = sequence(
    ("version", VERSION), ("start", TIME), ("end", TIME), ("elapsedNs", U64), ("samplesDue", U32), ("samplesTaken", U32),
    ("bootId", octets(16)), ("quality", TIME_QUALITY), ("orders", U32),
    ("totals", list_of(sequence(("code", U8), ("host", QUANTITY, 0), ("orders", QUANTITY), ("check", TEXT)))))
LINE = sequence(
    ("resource", TEXT), ("unit", TEXT), ("quantity", QUANTITY), ("tier", U16), ("unitPrice", MONEY), ("per", TEXT),
    ("amount", MONEY))
RATED_GAP = sequence(("orderSeq", U64), ("start", TIME), ("end", TIME), ("rule", TEXT), ("amount", MONEY))
BILL = sequence(
    ("version", VERSION), ("number", TEXT), ("contractNo", NO), ("computingPoolId", TEXT), ("buyer", DIGEST), ("deal", DIGEST),
    ("offer", DIGEST), ("periodStart", TIME), ("periodEnd", TIME), ("firstSeq", U64), ("lastSeq", U64),
    ("lastRecord", ENTRY_NAME), ("restsOn", ENTRY_NAME, 3), ("previousBill", DIGEST, 0), ("currency", TEXT), ("roundingRule", TEXT),
    ("lines", list_of(LINE)), ("gaps", list_of(RATED_GAP)), ("rounding", MONEY), ("overCeiling", MONEY, 1), ("total", MONEY), ("refund", MONEY, 2),
    ("quality", list_of(sequence(("code", U8), ("ns", U64), ("elapsedNs", U64))), 4))
CORRECTION = sequence(
    ("version", VERSION), ("number", TEXT), ("contractNo", NO), ("computingPoolId", TEXT), ("bill", DIGEST),
    ("previous", DIGEST, 0), ("restsOn", ENTRY_NAME), ("time", TIME), ("before", MONEY),
    ("adjustments", list_of(sequence(("resource", TEXT), ("why", TEXT), ("amount", MONEY)))), ("total", MONEY))
LINK = sequence(("contractNo", NO), ("kind", U16), ("finance", ENTRY_NAME))
PAYMENT = sequence(
    ("version", VERSION), ("contractNo", NO), ("number", TEXT), ("bill", DIGEST), ("amount", MONEY), ("paidAt", TIME),
    ("restsOn", ENTRY_NAME), ("confirmation", BYTES))
REFUND_PAID = sequence(
    ("version", VERSION), ("contractNo", NO), ("number", TEXT), ("bill", DIGEST), ("correction", DIGEST), ("amount", MONEY),
    ("paidAt", TIME), ("restsOn", ENTRY_NAME), ("confirmation", BYTES))
DEMAND = sequence(
    ("version", VERSION), ("demandNo", NO), ("buyer", DIGEST), ("relay", TEXT), ("time", TIME), ("validUntil", TIME),
    ("pools", list_of(TEXT), 0), ("template", TEXT),
    ("items", list_of(sequence(("class", TEXT), ("minima", list_of(RESERVATION)), ("quantity", U32)))),
    ("attributes", list_of(sequence(("name", TEXT), ("value", TEXT)))), ("termNs", U64), ("startFrom", TIME),
    ("startUntil", TIME), ("ceiling", MONEY, 1))
RESPONSE = sequence(
    ("version", VERSION), ("demand", DIGEST), ("follows", DIGEST), ("proposalNo", NO), ("computingPoolId", TEXT), ("time", TIME),
    ("proposal", sequence(
        ("productId", TEXT), ("catalogueRevision", U64), ("quantity", U32), ("termNs", U64), ("tariff", DIGEST),
        ("estimate", MONEY), ("holdUntil", TIME)), 0),
    ("refusal", sequence(("code", TEXT), ("why", TEXT)), 1))
SIGNED_ROTATION = sequence(
    ("rotation", BYTES), ("oldSignature", BYTES), ("newSignature", BYTES), ("certificates", list_of(BYTES)))
ROTATION = sequence(
    ("version", VERSION), ("computingPoolId", TEXT), ("old", DIGEST), ("new", DIGEST), ("financeFrom", U64), ("time", TIME),
    ("why", TEXT))
RECEIPT = sequence(
    ("version", VERSION), ("computingPoolId", TEXT), ("log", U8), ("size", U64), ("root", DIGEST), ("storedAt", TIME),
    ("refused", list_of(sequence(("entry", DIGEST), ("code", TEXT)))),
    ("bills", list_of(sequence(("entry", DIGEST), ("number", TEXT)))))

# Number, name in file names (section 3) and type of the body; None where nothing here looks inside.
KINDS = {
    1: ("browse", SIGNED_STATEMENT), 2: ("order", SIGNED_STATEMENT), 3: ("deal", DEAL), 4: ("score", SIGNED_STATEMENT),
    10: ("rules", RULES), 11: ("window", WINDOW), 12: ("usage", RECORD), 13: ("gap", RECORD), 14: ("order_status", ORDER_STATUS),
    15: ("notice", SIGNED), 17: ("user_operation", None), 18: ("demand", SIGNED), 19: ("response", SIGNED),
    20: ("key_rotation", SIGNED_ROTATION), 21: ("receipt", None), 22: ("offer", SIGNED), 23: ("certificates", None), 24: ("finance_link", LINK),
    25: ("set_aside", None), 26: ("epoch", None), 27: ("allocation", ALLOCATION), 40: ("bill", BILL), 41: ("correction", CORRECTION),
    42: ("payment", PAYMENT), 43: ("refund_paid", REFUND_PAID),
}

# Section 6: kind, base unit, named unit, base units in one.
GIB, HOUR_NS = 2**30, 3_600_000_000_000
BYTE_SECONDS, SIZE = ("byte-seconds", "GiB-hour", GIB * 3600), ("bytes", "GiB", GIB)
OPERATIONS = ("operations", "million-operations", 1_000_000)
RESOURCES = [
    ("cpu", "ns", "core-hour", HOUR_NS), ("memory", *BYTE_SECONDS), ("disk_read", *SIZE), ("disk_write", *SIZE),
    ("disk_read_ops", *OPERATIONS), ("disk_write_ops", *OPERATIONS), ("net_rx", *SIZE), ("net_tx", *SIZE),
    ("storage", *BYTE_SECONDS), ("gpu", "device-ns", "GPU-hour", HOUR_NS), ("gpu_memory", *BYTE_SECONDS),
    ("gpu_energy", "millijoules", "kWh", 3_600_000_000),
]
CODES = {row[0]: code for code, row in enumerate(RESOURCES)}
ROUNDING = "line-half-even-8,total-down-2"
FEN = 1_000_000
POSTPAID = 1


def from_rfc3339(text):
    """Nanoseconds since 1970 of a time in UTC with `Z` and at most nine digits of a second; None for any other spelling."""
    match = re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z", text, re.A)
    try:
        since = datetime.datetime.fromisoformat(match.group(1)) - datetime.datetime(1970, 1, 1) if match else None
    except ValueError:
        return None
    whole = since and (since.days * 86_400 + since.seconds) * 10**9 + int((match.group(2) or "0").ljust(9, "0"))
    return whole if whole is None or -2**63 <= whole < 2**63 else None


def rfc3339(ns):
    """UTC, as many digits of the second as it needs."""
    seconds, rest = divmod(ns, 1_000_000_000)
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return at.isoformat() + fraction + "Z"


def decimal(value, digits):
    """A decimal with at least two digits behind the point."""
    whole, rest = divmod(abs(value), 10**digits)
    rest = f"{rest:0{digits}d}"
    while len(rest) > 2 and rest.endswith("0"):
        rest = rest[:-1]
    return f"{'-' if value < 0 else ''}{whole}.{rest}"


def money(value):
    return None if value is None else decimal(value, 8)


def element(tag, content):
    """DER of one value."""
    size = len(content)
    length = bytes([size]) if size < 128 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (length if size < 128 else bytes([128 + len(length)]) + length) + content


def lines_of(text):
    """Lines without their ends; a last line may lack its end."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line[:-1] if line.endswith("\r") else line for line in lines]


def as_text(data):
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        return None


# ---------------------------------------------------------------- the container (section 10)


class NoPack(Exception):
    """Nothing that can be judged: exit status 65."""


TOP = ("README.txt", "bill.json", "bill.der", "tariff.der", "contract.toml")
BELONGS = re.compile(r"(signed|entries|proofs|certs|crls)/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,119}\Z")
MEMBERS_MAX, PACK_MAX, ENTRIES_MAX, INDEX_LINES_MAX = 65_535, 192 << 20, 600_000, 4_096


def room_of(name):
    if name in ("README.txt", "bill.json", "signed/index.tsv", "proofs/index.tsv"):
        return 1 << 20
    if name.startswith("proofs/"):
        return 8 << 10
    if name.startswith("crls/"):
        return 256 << 10
    return 8 << 20 if re.fullmatch(r"entries/records-(0|[1-9][0-9]*)\.(der|tsv)", name) else 64 << 10


class Pack:
    """The members that belong to a pack. How they were packed says nothing, so checksums are not looked at."""

    def __init__(self, data):
        self.files, self.unreadable, self.doubled = {}, [], False
        end = data.rfind(b"PK\x05\x06", max(0, len(data) - 65_557))
        if end < 0 or end + 22 > len(data):
            raise NoPack("no end of a zip directory")
        count, size, offset, comment = struct.unpack_from("<HIIH", data, end + 10)
        if count == 0xFFFF or end + 22 + comment > len(data) or struct.unpack_from("<HHH", data, end + 4) != (0, 0, count):
            raise NoPack("a zip of several parts, or of the 64-bit form")
        at, shift = end - size, end - size - offset
        if at < 0 or shift < 0:
            raise NoPack("the zip directory does not lie in the file")
        room, folders = min(PACK_MAX, 16 * len(data) + (1 << 20)), {"certs/": 64, "crls/": 4}
        seen = set()
        for _ in range(count):
            if data[at:at + 4] != b"PK\x01\x02" or at + 46 > len(data):
                raise NoPack("the zip directory is damaged")
            flags, method = struct.unpack_from("<HH", data, at + 8)
            packed, _, names, extra, comment = struct.unpack_from("<IIHHH", data, at + 20)
            local = struct.unpack_from("<I", data, at + 42)[0] + shift
            name = data[at + 46:at + 46 + names].decode("latin-1")
            at += 46 + names + extra + comment
            self.doubled |= name in seen
            seen.add(name)
            if name not in TOP and not BELONGS.match(name):
                continue
            for folder in folders:
                if name.startswith(folder):
                    folders[folder] -= 1
                    if folders[folder] < 0:
                        raise NoPack(f"too many members in {folder}")
            content, why = self.content(data, local, method, flags, packed, room_of(name))
            if why:
                self.unreadable.append((name, why))
            if content is None:
                continue
            if len(content) > room_of(name):
                raise NoPack(f"{name} is too large")
            room -= len(content)
            if room < 0:
                raise NoPack("it unpacks to more than any pack")
            self.files[name] = content
        for index in ("signed/index.tsv", "proofs/index.tsv"):
            if self.files.get(index, b"").count(b"\n") > INDEX_LINES_MAX:
                raise NoPack(f"{index} is too long")
        if "bill.der" not in self.files:
            raise NoPack("no bill.der inside")

    @staticmethod
    def content(data, local, method, flags, packed, limit):
        if data[local:local + 4] != b"PK\x03\x04" or flags & 1:
            return None, "no such member"
        start = local + 30 + sum(struct.unpack_from("<HH", data, local + 26)) if local + 30 <= len(data) else len(data)
        raw = data[start:start + packed]
        if method == 0:
            return raw, "" if len(raw) == packed else "cut short"
        if method != 8:
            return None, "packed in an unknown way"
        unpack = zlib.decompressobj(-15)
        try:
            content = unpack.decompress(raw, limit + 1)
        except zlib.error as error:
            return b"", str(error)
        return content, "" if unpack.eof or len(content) > limit else "cut short"

    def text(self, name):
        return as_text(self.files.get(name))

    def below(self, folder):
        return sorted((name, data) for name, data in self.files.items() if name.startswith(folder))


# ---------------------------------------------------------------- SM2 signatures (section 1) and certificates (section 8)

P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
KEY_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")
SIGNATURE = sequence(("r", integer(1, N - 1)), ("s", integer(1, N - 1)))


class OpenSsl:
    """The openssl command; what it said once it is not asked again."""

    def __init__(self):
        self.known, self.place, self.keys = {}, tempfile.TemporaryDirectory(), {}
        self.count = 0

    def file(self, data):
        self.count += 1
        path = pathlib.Path(self.place.name) / str(self.count)
        path.write_bytes(data)
        return str(path)

    def ask(self, point, tbs, signature):
        if point not in self.keys:
            self.keys[point] = self.file(pem("PUBLIC KEY", KEY_PREFIX + point).encode())
        files = self.file(signature), self.file(tbs)
        command = ["openssl", "dgst", "-sm3", "-verify", self.keys[point], "-sigopt", "distid:1234567812345678",
                   "-signature", *files]
        return command, files

    def verify(self, point, tbs, signature):
        self.verify_all([(point, tbs, signature)])
        return self.known[point, tbs, signature]

    def verify_all(self, triples):
        due = [one for one in dict.fromkeys(triples) if one not in self.known]
        self.known.update((one, False) for one in due)
        due = [one for one in due if decoded(SIGNATURE, one[2])]
        asked = [self.ask(*one) for one in due]
        run = lambda command: subprocess.run(command, capture_output=True).returncode == 0
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.known.update(zip(due, pool.map(run, [command for command, _ in asked])))
        for _, files in asked:
            for file in files:
                pathlib.Path(file).unlink()


def pem(label, der):
    body = base64.b64encode(der).decode()
    lines = "".join(body[at:at + 64] + "\n" for at in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}-----END {label}-----\n"


def pem_blocks(text, label):
    """Every block of that label; text around them is passed over."""
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    found, at = [], text.find(begin)
    while at >= 0:
        stop = text.find(end, at)
        lines = text[at + len(begin):stop].split("\n") if stop >= 0 else []
        body = lines[1:-1]
        full = all(len(line.rstrip("\r")) == 64 for line in body[:-1])
        if stop < 0 or len(lines) < 3 or lines[0].strip("\r") or lines[-1] or not full:
            raise Bad("broken PEM")
        joined = "".join(line.rstrip("\r") for line in body)
        try:
            der = base64.b64decode(joined, validate=True)
        except ValueError:
            raise Bad("broken base64") from None
        if base64.b64encode(der).decode() != joined:
            raise Bad("base64 not in its only form")
        found.append(der)
        at = text.find(begin, stop)
    if not found:
        raise Bad("no PEM block")
    return found


def oid(data, start, end):
    content = data[start:end]
    arcs, value, first = [], 0, True
    for byte in content:
        if first and byte == 0x80:
            raise Bad("object identifier not in its only form")
        value, first = value << 7 | byte & 127, byte < 128
        if first:
            arcs.append(value)
            value = 0
    if not content or not first or arcs[0] > 119 or any(arc >= 2**32 for arc in arcs):
        raise Bad("broken object identifier")
    return ".".join(map(str, [*divmod(arcs[0], 40), *arcs[1:]]))


def bits(data, start, end):
    if start >= end or data[start] > 7 or end - start == 1 and data[start]:
        raise Bad("broken BIT STRING")
    if end - start > 1 and data[end - 1] & (1 << data[start]) - 1:
        raise Bad("unused bits are set")
    return data[start], data[start + 1:end]


def when(tag, data, start, end):
    """Time of a certificate, seconds since 1970."""
    text = data[start:end].decode("latin-1")
    digits = {0x17: 12, 0x18: 14}.get(tag, 0)
    if not re.fullmatch(r"[0-9]{%d}Z" % digits, text) or not digits:
        raise Bad("broken time")
    if tag == 0x17:
        text = ("19" if text >= "5" else "20") + text
    try:
        at = datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise Bad("broken time") from None
    if at.year < 1970:
        raise Bad("a time before 1970")
    return int(at.timestamp())


class Cursor:
    """Reads the values of a SEQUENCE one by one."""

    def __init__(self, data, tag=0x30, at=0, end=None):
        self.data = data
        found, self.at, self.end = tlv(data, at, len(data) if end is None else end)
        self.rest = len(data) if end is None else end
        if found != tag or end is None and self.end != len(data):
            raise Bad("another type, or trailing bytes")

    def more(self):
        return self.at < self.end

    def tag(self):
        return self.data[self.at] if self.more() else None

    def take(self, *tags):
        """Tag, whole octets and the span of the content."""
        first = self.at
        tag, start, self.at = tlv(self.data, self.at, self.end)
        if tags and tag not in tags:
            raise Bad("another type")
        return tag, self.data[first:self.at], start, self.at

    def inner(self, tag=0x30):
        first = self.at
        _, _, _, stop = self.take(tag)
        return Cursor(self.data, tag, first, stop)

    def close(self):
        if self.more():
            raise Bad("more than the type has")


def algorithm(cursor):
    body = cursor.inner()
    name = oid(body.data, *body.take(0x06)[2:])
    parameters = body.take()[1] if body.more() else None
    body.close()
    return name, parameters


def name_of(cursor):
    first = cursor.at
    name = cursor.inner()
    while name.more():
        part = name.inner(0x31)
        if not part.more():
            raise Bad("an empty part of a name")
        while part.more():
            pair = part.inner()
            oid(pair.data, *pair.take(0x06)[2:])
            pair.take()
            pair.close()
    return cursor.data[first:cursor.at]


def common_name(name):
    """The only common name (2.5.4.3) of a distinguished name, if it is UTF8String or PrintableString."""
    found, name = [], Cursor(name)
    while name.more():
        part = name.inner(0x31)
        while part.more():
            pair = part.inner()
            kind = oid(pair.data, *pair.take(0x06)[2:])
            tag, _, start, end = pair.take()
            if kind == "2.5.4.3":
                found.append(as_text(pair.data[start:end]) if tag in (0x0C, 0x13) else None)
    return found[0] if len(found) == 1 else None


def dns_names(extensions):
    """The DNS names of subjectAltName."""
    if "2.5.29.17" not in extensions:
        return []
    try:
        names, found = Cursor(extensions["2.5.29.17"][1]), []
        while names.more():
            tag, _, start, end = names.take()
            found += [names.data[start:end].decode("latin-1")] if tag == 0x82 else []
    except Bad:
        return []
    return found


def extensions_of(cursor):
    found = {}
    while cursor.more():
        one = cursor.inner()
        name = oid(one.data, *one.take(0x06)[2:])
        critical = False
        if one.tag() == 0x01:
            flag = one.take()[1]
            if flag not in (b"\x01\x01\xff", b"\x01\x01\x00"):
                raise Bad("broken BOOLEAN")
            critical = flag[2] == 255
        _, _, start, end = one.take(0x04)
        one.close()
        if name in found:
            raise Bad("an extension twice")
        found[name] = critical, one.data[start:end]
    return found


class Envelope:
    """What certificates and revocation lists share: signed bytes, algorithm, signature."""

    def __init__(self, der):
        outer = Cursor(der)
        self.der, self.tbs = der, outer.take(0x30)[1]
        self.algorithm = algorithm(outer)
        unused, self.signature = bits(der, *outer.take(0x03)[2:])
        outer.close()
        if self.algorithm[0] != "1.2.156.10197.1.501" or self.algorithm[1] not in (None, b"\x05\x00") or unused:
            raise Bad("not signed with SM2 and SM3")


def authority_key(extensions):
    if "2.5.29.35" not in extensions:
        return None
    body = Cursor(extensions["2.5.29.35"][1])
    key = body.take(0x80)[2:] if body.tag() == 0x80 else None
    while body.more():
        body.take(0xA1, 0x82)
    return body.data[slice(*key)] if key else None


class Certificate(Envelope):
    """An X.509 certificate with an SM2 key, as received."""

    def __init__(self, der):
        super().__init__(der)
        tbs = Cursor(self.tbs)
        version = 1
        if tbs.tag() == 0xA0:
            inner = tbs.inner(0xA0)
            _, whole, _, _ = inner.take(0x02)
            inner.close()
            version = {b"\x02\x01\x02": 3, b"\x02\x01\x00": 1}.get(whole, 0)
        _, _, start, end = tbs.take(0x02)
        if not 0 < end - start <= 20:
            raise Bad("a serial number of another length")
        self.serial = tbs.data[start:end].lstrip(b"\x00")
        if algorithm(tbs) != self.algorithm:
            raise Bad("two signature algorithms")
        self.issuer = name_of(tbs)
        validity = tbs.inner()
        times = [when(tag, tbs.data, start, end) for tag, _, start, end in (validity.take(), validity.take())]
        validity.close()
        self.not_before, self.not_after = (at * 1_000_000_000 for at in times)
        self.subject = name_of(tbs)
        info = tbs.inner()
        kind = algorithm(info)
        unused, self.point = bits(tbs.data, *info.take(0x03)[2:])
        info.close()
        curve = kind == ("1.2.840.10045.2.1", bytes.fromhex("06082a811ccf5501822d")) or kind[0] == "1.2.156.10197.1.301"
        x, y = int.from_bytes(self.point[1:33], "big"), int.from_bytes(self.point[33:], "big")
        on_curve = x < P and y < P and (y * y - x * x * x + 3 * x - B) % P == 0
        if not curve or unused or len(self.point) != 65 or self.point[0] != 4 or not on_curve:
            raise Bad("no SM2 key")
        while tbs.tag() in (0x81, 0x82):
            tbs.take()
        extensions = {}
        if tbs.tag() == 0xA3:
            outer = tbs.inner(0xA3)
            extensions = extensions_of(outer.inner())
            outer.close()
        tbs.close()
        if version == 0 or version == 1 and extensions:
            raise Bad("a certificate of another version")
        self.version, self.id, self.extensions = version, sm3(der), extensions
        self.ca, self.path_len = self.constraints(extensions)
        self.usage = None
        if "2.5.29.15" in extensions:
            content = extensions["2.5.29.15"][1]
            tag, start, end = tlv(content, 0, len(content))
            if tag != 0x03 or end != len(content):
                raise Bad("broken keyUsage")
            octets_used = bits(content, start, end)[1]
            self.usage = {bit for bit in range(8 * len(octets_used)) if octets_used[bit // 8] >> 7 - bit % 8 & 1}
        self.key_id = decode(octets(), extensions["2.5.29.14"][1]) if "2.5.29.14" in extensions else None
        self.authority = authority_key(extensions)
        self.common_name, self.dns_names = common_name(self.subject), dns_names(extensions)
        self.odd = any(critical and name not in ("2.5.29.15", "2.5.29.17", "2.5.29.19")
                       for name, (critical, _) in extensions.items())

    def is_named(self, party):
        """Section 8: whether it names the node or platform `{site}/{node}`."""
        if not re.fullmatch(r"[a-z0-9_-]{1,64}/[a-z0-9_-]{1,64}", party):
            return False
        site, node = party.split("/")
        return self.common_name == party or f"{node}.{site}" in self.dns_names

    @staticmethod
    def constraints(extensions):
        if "2.5.29.19" not in extensions:
            return False, None
        body = Cursor(extensions["2.5.29.19"][1])
        is_ca = body.tag() == 0x01 and body.take()[1] == b"\x01\x01\xff"
        limit = integer(0, 255)[1](body.data, *body.take(0x02)[2:]) if body.more() else None
        body.close()
        return is_ca, limit if is_ca else None


class Crl(Envelope):
    """A whole revocation list of one issuer."""

    def __init__(self, der):
        super().__init__(der)
        tbs = Cursor(self.tbs)
        if tbs.take(0x02)[1] != b"\x02\x01\x01" or algorithm(tbs) != self.algorithm:
            raise Bad("a list of another version")
        self.issuer, self.revoked = name_of(tbs), {}
        tag, _, start, end = tbs.take()
        when(tag, tbs.data, start, end)
        if tbs.tag() in (0x17, 0x18):
            tag, _, start, end = tbs.take()
            when(tag, tbs.data, start, end)
        if tbs.tag() == 0x30:
            entries = tbs.inner()
            while entries.more():
                one = entries.inner()
                _, _, start, end = one.take(0x02)
                serial = one.data[start:end].lstrip(b"\x00")
                tag, _, start, end = one.take()
                at = when(tag, one.data, start, end) * 1_000_000_000
                if one.more() and any(critical for critical, _ in extensions_of(one.inner()).values()):
                    raise Bad("an unknown critical extension")
                one.close()
                self.revoked[serial] = min(at, self.revoked.get(serial, at))
        extensions = {}
        if tbs.tag() == 0xA0:
            outer = tbs.inner(0xA0)
            extensions = extensions_of(outer.inner())
            outer.close()
        tbs.close()
        if any(critical for critical, _ in extensions.values()):
            raise Bad("an unknown critical extension")
        self.authority = authority_key(extensions)

    def revoked_at(self, certificate):
        return self.revoked.get(certificate.serial) if self.issuer == certificate.issuer else None

    def names(self, issuer):
        return self.issuer == issuer.subject and (None in (self.authority, issuer.key_id) or self.authority == issuer.key_id)


class Untrusted(Exception):
    """No path, with the reason."""


class Search:
    """Looks for a path from a leaf to an anchor at one instant (section 8)."""

    def __init__(self, trust, at):
        self.trust, self.at, self.tried, self.path = trust, at, 0, []

    def good(self, one):
        if not one.not_before <= self.at <= one.not_after + 999_999_999:
            raise Untrusted("a certificate was not valid at the time")
        if one.odd:
            raise Untrusted("an unknown critical extension")

    def find(self, leaf):
        self.good(leaf)
        if leaf.usage is None or 0 not in leaf.usage:
            raise Untrusted("the certificate is not for signatures")
        self.path = [leaf]
        self.climb()

    def climb(self):
        child = self.path[-1]
        if any(child.der == anchor.der for anchor in self.trust.anchors):
            return
        fault = Untrusted("no trusted certificate issued it")
        for issuer, anchor in [(c, True) for c in self.trust.anchors] + [(c, False) for c in self.trust.certificates.values()]:
            keys = child.authority, issuer.key_id
            if child.issuer != issuer.subject or None not in keys and keys[0] != keys[1] or any(
                    issuer.der == one.der for one in self.path):
                continue
            try:
                self.link(child, issuer, anchor)
                self.path.append(issuer)
                try:
                    if not anchor:
                        self.climb()
                    return
                except Untrusted:
                    self.path.pop()
                    raise
            except Untrusted as error:
                if self.tried > 64:
                    raise
                fault = error
        raise fault

    def link(self, child, issuer, anchor):
        if len(self.path) >= 8:
            raise Untrusted("the path is too long")
        self.tried += 1
        if self.tried > 64:
            raise Untrusted("too many paths")
        self.good(issuer)
        if not issuer.ca and not (anchor and issuer.version == 1):
            raise Untrusted("the issuer is no authority")
        if not anchor if issuer.usage is None else 5 not in issuer.usage:
            raise Untrusted("the issuer may not sign certificates")
        below = sum(one.subject != one.issuer for one in self.path[1:])
        if issuer.path_len is not None and below > issuer.path_len:
            raise Untrusted("the issuer's path is too long")
        if not self.trust.openssl.verify(issuer.point, child.tbs, child.signature):
            raise Untrusted("the issuer's signature is wrong")
        for crl in self.trust.crls:
            if crl.names(issuer):
                may = issuer.usage is None or 6 in issuer.usage
                if not may or not self.trust.openssl.verify(issuer.point, crl.tbs, crl.signature):
                    raise Untrusted("the revocation list is not the issuer's")
                at = crl.revoked_at(child)
                if at is not None and at <= self.at:
                    raise Untrusted("the certificate was revoked")


class Trust:
    """Certificates and lists of the pack, and the reader's anchors."""

    def __init__(self, pack, anchors, openssl, out):
        self.anchors, self.openssl, self.certificates, self.crls = anchors, openssl, {}, []
        for folder, label, kind in (("certs/", "CERTIFICATE", Certificate), ("crls/", "X509 CRL", Crl)):
            for name, data in pack.below(folder):
                text = data.decode("utf-8", "replace")
                try:
                    found = [kind(der) for der in pem_blocks(text, label)]
                except Bad as error:
                    out.fail(name, f"not a {label}: {error}")
                    continue
                out.check(len(found) == 1 and pem(label, found[0].der) == text, name, "one plain PEM block expected")
                if kind is Certificate:
                    self.certificates[name] = found[0]
                else:
                    issued = any(openssl.verify(c.point, found[0].tbs, found[0].signature) for c in self.everybody())
                    out.check(issued, name, "nobody here or trusted signed this revocation list")
                    self.crls.append(found[0])
        turns = []
        for one in self.everybody():
            turns += [one.not_before, one.not_after + 1_000_000_000]
            turns += [at for crl in self.crls if (at := crl.revoked_at(one)) is not None]
        self.turns, self.chains = sorted(turns), {}

    def everybody(self):
        return [*self.anchors, *self.certificates.values()]

    def judge(self, certificate, name, at, out):
        """Says once for each certificate and stretch of time whether it leads to an anchor."""
        key = certificate.id, bisect.bisect_right(self.turns, at)
        if key in self.chains:
            return
        self.chains[key] = True
        try:
            if len(self.chains) > 64:
                raise Untrusted("more paths than any pack needs")
            Search(self, at).find(certificate)
        except Untrusted as error:
            out.fail(name, f"nothing that was trusted vouches for it: {error}")

    def strays(self, signers, out):
        for name, one in self.certificates.items():
            if one.id in signers or any(one.der == anchor.der for anchor in self.anchors):
                continue
            issued = any(c.subject == one.issuer and self.openssl.verify(c.point, one.tbs, one.signature)
                         for c in self.everybody())
            out.check(issued, name, "nobody here or trusted issued this certificate")


# ---------------------------------------------------------------- verdicts


class Verdict:
    def __init__(self):
        self.result, self.problems = "pass", []

    def note(self, result, where, what):
        if (result, where, what) not in self.problems:
            self.problems.append((result, where, what))
        self.result = max(self.result, result, key=("pass", "warn", "fail").index)

    def fail(self, where, what):
        self.note("fail", where, what)

    def warn(self, where, what):
        self.note("warn", where, what)

    def check(self, holds, where, what):
        if not holds:
            self.fail(where, what)


class Found:
    """An entry of the pack."""

    def __init__(self, name, place, digest, value, **more):
        self.name, self.place, self.hash, self.value = name, place, digest, value
        self.__dict__.update(more)

    def field(self, field):
        return f"{self.name}#{field}"


NUMBER = r"(0|[1-9][0-9]*)"
PLACE = re.compile(rf"{NUMBER}-{NUMBER}-{NUMBER}-(.*)\Z", re.S)


def place_of(stem):
    """Log, height, index and kind, numbers in their only form."""
    match = PLACE.match(stem)
    if not match:
        return None
    place = tuple(int(part) for part in match.groups()[:3])
    fits = place[0] < 2**8 and place[1] < 2**64 and place[2] < 2**32
    return (place, match.group(4)) if fits else None


def entry_place(name):
    inside = name.startswith("entries/") and name.endswith(".der")
    return place_of(name[8:-4]) if inside else None


def pieces(pack, out):
    """Every entry: name for problems, place and kind told, bytes."""
    found = []
    for name, data in pack.below("entries/"):
        match = re.fullmatch(r"entries/records-(0|[1-9][0-9]*)\.(der|tsv)", name)
        if match and int(match.group(1)) < 2**32:
            other = name[:-3] + ("tsv" if match.group(2) == "der" else "der")
            if other not in pack.files:
                out.fail(other, "missing")
            elif match.group(2) == "der":
                found += split_records(name, data, other, pack.files[other], out)
        else:
            found.append((name, entry_place(name), data))
        if len(found) > ENTRIES_MAX:
            raise NoPack("more entries than any pack has")
    return found


def split_records(name, data, list_name, lines, out):
    text = as_text(lines) or ""
    at = text.rfind("sm3\t")
    if at < 0:
        out.fail(list_name, "no line with the SM3 of the lines above")
        return []
    body = text[:at]
    out.check(text[at:] == f"sm3\t{sm3(body.encode()).hex()}\n", list_name, "the SM3 of the lines is another")
    found, at = [], 0
    for number, line in enumerate(lines_of(body), 1):
        stem, tab, digits = line.partition("\t")
        told = place_of(stem)
        length = int(digits) if re.fullmatch(r"[1-9][0-9]{0,18}", digits) else 0
        if not told or told[1] not in ("usage", "gap") or not length or at + length > len(data):
            out.fail(f"{list_name}:{number}", "not a line of the list")
            return found
        found.append((f"{name}:{stem}", told, data[at:at + length]))
        at += length
    out.check(at == len(data), name, "bytes in no line of the list")
    return found


def statement_is_right(said):
    """Section 4: the fields belong to the type and are in range."""
    kind = said.conType
    due = {1: ("nonce",), 2: ("offer", "follows", "requirement", "contractValue"), 3: (
        "offer", "follows", "requirement", "contractValue"), 4: ("offer", "follows", "score")}.get(kind)
    if due is None:
        return False
    if any((said[f] is not None) != (f in due) for f in ("nonce", "offer", "follows", "requirement", "contractValue", "score")):
        return False
    if said.nonce is not None:
        at = said.contractTime
        size = max(1, (at if at >= 0 else ~at).bit_length() // 8 + 1)
        body = element(4, said.buyer) + element(12, said.computingPoolId.encode()) + element(4, said.nonce) + element(
            2, at.to_bytes(size, "big", signed=True))
        if sm3(element(0x30, body))[:16] != said.contractNo:
            return False
    if said.requirement is not None:
        items, term, parent = said.requirement["items"], said.requirement.termNs, said.requirement.parent
        if parent is not None and not 2 <= parent.children <= 64:
            return False
        if not 1 <= len(items) <= 64 or any(i.quantity == 0 for i in items) or not 0 < term <= TERM_NS_MAX:
            return False
    if said.contractValue is not None and said.contractValue.amount < 0:
        return False
    if said.score is not None:
        codes = [item.code for item in said.score["items"]]
        if not codes or codes != sorted(set(codes)) or codes[-1] > 11 or said.score.overall > 10_000:
            return False
        return all(item.score <= 100 for item in said.score["items"])
    return True


TERM_NS_MAX, WHY_CHARS_MAX = 315_360_000_000_000_000, 400


def notice_is_right(notice):
    """Section 9, *Notices*: the fields belong to the act and are in range."""
    renewal = notice.renewal
    right = re.fullmatch(r"[a-z_]{1,32}", notice.act) and (renewal is not None) == (notice.act == "renew")
    right = right and (renewal is None or 0 < renewal.termNs <= TERM_NS_MAX) and (notice.act != "dispute" or notice.bill)
    control = any(ord(c) < 32 or 127 <= ord(c) < 160 for c in notice.why)
    return bool(right) and len(notice.why) <= WHY_CHARS_MAX and not control


def allocation_is_right(given):
    """Section 3: 1 to 64 devices of kinds that are sold by their name, by resource and id, each once."""
    devices = [(device.resource, device.id) for device in given.devices]
    return 1 <= len(devices) <= 64 and devices == sorted(set(devices)) and all(
        resource.startswith("gpu:") and 4 < len(resource.encode()) <= 68 and re.fullmatch(r"(GPU|MIG)-[0-9A-Fa-f-]{1,44}", name)
        for resource, name in devices)


def read_entry(name, told, data):
    if told is None:
        raise Bad("not a name of an entry")
    place, kind_told = told
    entry = decode(ENTRY, data)
    kind, body_type = KINDS.get(entry.kind, (None, None))
    if kind is None:
        raise Bad(f"kind {entry.kind} is unknown")
    if kind != kind_told:
        raise Bad(f"the name does not fit its content, which is a {kind}")
    value = decode(body_type, entry.body) if body_type else None
    found = Found(name, place, entry_hash(data), value, kind=kind, body=entry.body)
    if kind in ("browse", "order", "score"):
        found.said = decode(STATEMENT, value.statement)
        if not statement_is_right(found.said):
            raise Bad("the statement's fields do not belong to its type")
    if kind == "offer":
        found.offer, found.offer_hash = decode(OFFER, value.tbs), sm3(value.tbs)
    if kind == "notice":
        found.said = decode(NOTICE, value.tbs)
        if not notice_is_right(found.said):
            raise Bad("the notice's fields do not belong to its act")
    if kind == "allocation" and not allocation_is_right(value):
        raise Bad("the allocation's devices are not 1 to 64 in order, each once")
    if kind in ("demand", "response"):
        decode(DEMAND if kind == "demand" else RESPONSE, value.tbs)
    if kind == "key_rotation":
        found.said = decode(ROTATION, value.rotation)
        control = any(ord(c) < 32 or 127 <= ord(c) < 160 for c in found.said.why)
        if found.said.old == found.said.new or len(found.said.why) > WHY_CHARS_MAX or control:
            raise Bad("the rotation's fields are out of range")
    return found


class Evidence:
    """The entries of the pack by kind. Nothing here is believed yet."""

    def __init__(self, pack, found, verdicts):
        signatures, completeness, _, arithmetic = verdicts
        self.bill_bytes = pack.files["bill.der"]
        self.bill = decoded(BILL, self.bill_bytes)
        if self.bill is None:
            signatures.fail("bill.der", "not a Bill")
        self.browse = self.offer = self.order = self.deal = None
        by = {kind: [] for kind in ("score", "rules", "order_status", "notice", "correction", "payment", "refund_paid", "window",
                                    "finance_link", "usage", "bill", "allocation")}
        self.all, self.rotations = [], []
        for name, told, data in found:
            try:
                entry = read_entry(name, told, data)
            except Bad as error:
                completeness.fail(name, f"the entry does not decode: {error}")
                continue
            self.all.append(entry)
            if entry.kind in ("browse", "offer", "order", "deal"):
                setattr(self, entry.kind, entry)
            elif entry.kind == "key_rotation":
                self.rotations.append(entry)
            elif entry.kind in by or entry.kind == "gap":
                by["usage" if entry.kind == "gap" else entry.kind].append(entry)
        self.scores, self.rules, self.statuses, self.notices, self.corrections, self.payments, self.refunds = list(by.values())[:7]
        self.windows, self.links, self.records, bills, self.allocations = list(by.values())[7:]
        self.earlier = []
        self.choose_bill(bills)
        self.keep_contract(completeness)
        self.choose_earlier()
        self.records.sort(key=lambda found: found.value.orderSeq)
        for found in (self.notices, self.corrections, self.links):
            found.sort(key=lambda found: found.place)
        self.tariff = decoded(TARIFF, pack.files.get("tariff.der", b"")) if "tariff.der" in pack.files else None
        if self.tariff is None and "tariff.der" in pack.files:
            arithmetic.fail("tariff.der", "not a Tariff")

    def choose_bill(self, bills):
        number = self.bill.number if self.bill else None
        same = [b for b in bills if b.body == self.bill_bytes] or [b for b in bills if b.value.number == number]
        self.bill_entry = same[0] if same else bills[-1] if bills else None
        if self.bill is None and self.bill_entry:
            self.bill = self.bill_entry.value
        self.all_bills = sorted(bills, key=lambda found: found.place)

    def choose_earlier(self):
        """The chain of bills that ends before the bill of the pack, as far as it is here, oldest first."""
        named, below = self.bill and self.bill.previousBill, self.bill_entry and self.bill_entry.place
        while named is not None:
            found = next((b for b in self.all_bills if b.hash == named and (below is None or b.place < below)), None)
            if found is None:
                break
            named, below = found.value.previousBill, found.place
            self.earlier.insert(0, found)

    def keep_contract(self, out):
        if self.bill is None:
            return
        def own(found):
            value = getattr(found, "said", None) or getattr(found, "offer", None) or found.value
            out.check(value.contractNo == self.bill.contractNo, found.name, "it belongs to another contract")
            return value.contractNo == self.bill.contractNo
        for kind in ("records", "statuses", "links", "payments", "refunds", "corrections", "notices", "scores", "all_bills",
                     "allocations"):
            setattr(self, kind, [found for found in getattr(self, kind) if own(found)])
        for kind in ("browse", "order", "offer", "deal", "bill_entry"):
            found = getattr(self, kind)
            if found and not own(found):
                setattr(self, kind, None)

    def is_buyers(self, notice):
        """Whether the contract's buyer signed a notice; otherwise the platform must have."""
        return self.browse is not None and self.browse.said.buyer == notice.value.certId

    def bill_before(self):
        return self.earlier[-1] if self.earlier else None


# ---------------------------------------------------------------- confirmations: the platform's word (docs/if2.md, 2 and 5.6)


def unbase64url(text):
    """Octets of base64url without padding, in its only form; None for anything else."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if re.fullmatch(r"[A-Za-z0-9_-]*", text) else None
    except ValueError:
        return None
    return data if data is not None and base64.urlsafe_b64encode(data).decode().rstrip("=") == text else None


def json_object(data, due, spare=None):
    """A JSON object with the members `due`, all strings but `v` and `body`; others are refused, or taken where `spare` is None."""
    def once(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=once) if isinstance(data, bytes) else data
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not set(due) <= set(found) or spare is not None and not set(found) <= {*due, *spare}:
        return None
    texts = [found[name] for name in due if name not in ("v", "body")]
    texts += [found[name] for name in spare or () if found.get(name) is not None]
    return found if all(isinstance(text, str) for text in texts) else None


TOLD = ("amount_cny", "paid_at", "refund_cny", "refunded_cny", "refunded_at", "parent_bill")


def payload_of(tbs):
    """The payload whose characters a platform signed, with its answer to payment-confirm; None when it is none."""
    text = as_text(tbs)
    data = None if text is None else unbase64url(text)
    payload = None if data is None else json_object(data, ("id", "iface", "from", "to", "at", "body"), ("re", "expires"))
    body = payload and payload["body"]
    if not isinstance(body, dict) or list(body) not in (["ok"], ["error"]) or from_rfc3339(payload["at"]) is None:
        return None
    if "error" in body:
        problem = json_object(body["error"], ("code", "remedy")) if isinstance(body["error"], dict) else None
    else:
        state = json_object(body["ok"], ("bill_no", "state"))
        problem = state if state and all(isinstance(state.get(name), (str, type(None))) for name in TOLD) else None
    return payload if problem else None


def confirmation_said(tbs):
    payload = payload_of(tbs)
    return payload and Rec(at=from_rfc3339(payload["at"]), computingPoolId=payload["to"])


def sealed(confirmation):
    """Signed bytes, signature and certificate id of an envelope, or None."""
    envelope = json_object(confirmation, ("v", "payload", "cert_id", "sig"), ()) if len(confirmation) <= 65_536 else None
    if envelope is None or type(envelope["v"]) is not int or envelope["v"] != 1:
        return None
    signature = unbase64url(envelope["sig"])
    if signature is None or not re.fullmatch(r"[0-9a-fA-F]{64}", envelope["cert_id"]):
        return None
    return envelope["payload"].encode(), signature, bytes.fromhex(envelope["cert_id"])


def read_money(text):
    """10^-8 CNY of a decimal, or None."""
    match = re.fullmatch(r"(-?)([0-9]{1,18})(?:\.([0-9]{1,8}))?", text or "", re.A)
    if not match:
        return None
    value = int(match.group(2)) * 10**8 + int((match.group(3) or "").ljust(8, "0"))
    return -value if match.group(1) else value


def confirms(tbs, state, entry, pool):
    """Whether the platform said of this bill, to this node, that this amount was paid or went back at this time."""
    payload = payload_of(tbs)
    if payload is None or payload["iface"] != "payment-confirm" or payload["to"] != pool or "ok" not in payload["body"]:
        return False
    said, amount, at = payload["body"]["ok"], *(("amount_cny", "paid_at") if state == "paid" else ("refunded_cny", "refunded_at"))
    told = said["bill_no"], said["state"], read_money(said.get(amount)), from_rfc3339(said.get(at) or "")
    return told == (entry.number, state, entry.amount, entry.paidAt)


def parent_of(ev):
    """What the deal says of a parent order, or None."""
    return ev.deal.value.requirement.parent if ev.deal else None


def named_parent_bill(tbs):
    """The parent bill that the platform's word names, or None."""
    payload = payload_of(tbs)
    return payload["body"].get("ok", {}).get("parent_bill") if payload else None


def is_of_level(tbs, parent):
    """Whether a parent bill is named exactly where the buyer signed that the parent is what is paid."""
    named = named_parent_bill(tbs)
    if parent is None or parent.payable == 0:
        return named is None
    return named is not None and re.fullmatch(r"[0-9a-f]{64}", named) is not None


# ---------------------------------------------------------------- first verdict: signatures

# Kind of a line of signed/index.tsv: role, type of the signed bytes, the field that tells when (section 8), conType.
SIGNED_KINDS = {
    "browse": ("buyer", STATEMENT, "contractTime", 1), "offer": ("node", OFFER, "validFrom", None),
    "order": ("buyer", STATEMENT, "contractTime", 2), "deal": ("node", COUNTERSIGNATURE, "time", None),
    "score": ("buyer", STATEMENT, "contractTime", 4), "block": ("node", HEADER, "time", None),
    "checkpoint": ("node", CHECKPOINT, "time", None), "receipt": ("platform", RECEIPT, "storedAt", None),
    "notice": ("buyer", NOTICE, "time", None), "platform-notice": ("platform", NOTICE, "time", None),
    "confirmation": ("platform", None, "at", None),
    "rotation-old": ("node", ROTATION, "time", None), "rotation-new": ("node", ROTATION, "time", None),
}


def said_of(kind, tbs):
    """What signed bytes say, or None when they are not of the kind."""
    form = SIGNED_KINDS[kind][1]
    return decoded(form, tbs) if form else confirmation_said(tbs)


def signer_of(role, said):
    """The node or platform that a signer's certificate must name (section 8); a buyer is named by its certificate id."""
    pool = said.get("computingPoolId") or said.get("node") or ""
    return {"buyer": None, "node": pool, "platform": pool.partition("/")[0] + "/platform"}[role]


class Authentic:
    """Signed bytes whose signature holds: (kind, tbs) to certificate id, signature, file."""

    def __init__(self, pack, trust, out):
        self.by = {}
        index = pack.text("signed/index.tsv")
        if index is None:
            out.fail("signed/index.tsv", "missing")
            return
        rows = []
        for number, line in enumerate(lines_of(index), 1):
            try:
                rows.append(self.row(pack, trust, line.split("\t"), f"signed/index.tsv:{number}"))
            except Bad as error:
                out.fail(*error.args)
        for kind, at, (tbs_name, tbs), (sig_name, signature), (cert_name, certificate) in rows:
            trust.judge(certificate, cert_name, at, out)
        trust.openssl.verify_all([(row[4][1].point, row[2][1], row[3][1]) for row in rows])
        roles, named = {}, set()
        for kind, at, (tbs_name, tbs), (sig_name, signature), (cert_name, certificate) in rows:
            role = SIGNED_KINDS[kind][0]
            if not trust.openssl.verify(certificate.point, tbs, signature):
                out.fail(sig_name, f"not the {role}'s signature over these bytes")
                continue
            out.check(roles.setdefault(certificate.id, role) == role, cert_name, "one certificate in two roles")
            signer = signer_of(role, said_of(kind, tbs))
            if signer is not None and (certificate.id, signer) not in named:
                named.add((certificate.id, signer))
                out.check(certificate.is_named(signer), cert_name, f"the {role}'s certificate does not name {signer}")
            self.by[kind, tbs] = certificate.id, signature, tbs_name
        trust.strays({row[4][1].id for row in rows}, out)

    @staticmethod
    def row(pack, trust, columns, place):
        if len(columns) != 6 or columns[5] not in SIGNED_KINDS:
            raise Bad(place, "not a line of the index")
        for name in columns[:3]:
            if name not in pack.files:
                raise Bad(name, "missing")
        kind = columns[5]
        role, _, field, con_type = SIGNED_KINDS[kind]
        tbs = pack.files[columns[0]]
        said = said_of(kind, tbs)
        if said is None or con_type and said.conType != con_type:
            raise Bad(columns[0], f"not a {kind}")
        if columns[3] != role:
            raise Bad(place, f"the {role} signs this")
        if columns[4] != rfc3339(said[field]):
            raise Bad(place, "the signed bytes tell another time")
        if columns[2] not in trust.certificates:
            raise Bad(columns[2], "not a certificate")
        signature = pack.files[columns[1]]
        return kind, said[field], (columns[0], tbs), (columns[1], signature), (columns[2], trust.certificates[columns[2]])

    def files(self, kind):
        return [(tbs, name) for (of, tbs), (_, _, name) in self.by.items() if of == kind]


def check_rotations(ev, authentic, trust, out):
    """Where the node changed its key both keys say so, and each signs its own blocks only."""
    held = []
    for found in ev.rotations:
        value, said, keys = found.value, found.said, set()
        for kind, certificate, signature, name in (
                ("rotation-old", said.old, value.oldSignature, "oldSignature"),
                ("rotation-new", said.new, value.newSignature, "newSignature")):
            right = (authentic.by.get((kind, value.rotation)) or (None, None))[:2] == (certificate, signature)
            out.check(right, found.field(name), f"no {kind} over the rotation by that key")
            if right:
                keys |= {c.point for c in trust.certificates.values() if c.id == certificate}
        if ev.deal:
            out.check(said.computingPoolId == ev.deal.value.computingPoolId, found.field("computingPoolId"), "of another node")
        out.check(len(keys) == 2, found.name, "not signed by two keys")
        if len(keys) == 2:
            held.append((found.place[1] + 1, said))
    for tbs, name in authentic.files("block"):
        header, certificate = decode(HEADER, tbs), authentic.by["block", tbs][0]
        for trade_from, said in held:
            is_late = header.height >= (trade_from if header.log == 0 else said.financeFrom)
            out.check(certificate != (said.old if is_late else said.new), name, "signed by a key that is not in force")


def check_links(pack, ev, authentic, out):
    """Entries hold what was signed, by whom they say, and name each other by hash."""
    def listed(kind, name, tbs, signature, certificate):
        found = authentic.by.get((kind, tbs))
        if found is None:
            out.fail(name, "no valid signature over what this entry holds")
        else:
            out.check(found[0] == certificate, name, "signed by another certificate")
            out.check(found[1] == signature, name, "another signature than the listed one")
    for kind, found in [("browse", ev.browse), ("order", ev.order), *(("score", score) for score in ev.scores)]:
        if found:
            listed(kind, found.name, found.value.statement, found.value.signature, found.said.buyer)
    for found in ev.notices:
        signed = found.value
        listed("notice" if ev.is_buyers(found) else "platform-notice", found.name, signed.tbs, signed.signature, signed.certId)
        if ev.deal:
            out.check(found.said.deal == ev.deal.hash, found.field("deal"), "it names another deal")
            same = found.said.computingPoolId == ev.deal.value.computingPoolId
            out.check(same, found.field("computingPoolId"), "the deal is of another node")
        known = [bill.hash for bill in ev.all_bills] + [link.value.finance.hash for link in ev.links if link.value.kind == 40]
        out.check(found.said.bill is None or found.said.bill in known, found.field("bill"), "no bill of this contract")
        first = next(other for other in ev.notices if other.value.tbs == signed.tbs)
        out.check(first.place == found.place, found.name, "the same notice stands in the log twice")
    for found, state in [*((paid, "paid") for paid in ev.payments), *((paid, "refunded") for paid in ev.refunds)]:
        if ev.deal:
            place, word = found.field("confirmation"), sealed(found.value.confirmation)
            if word is None:
                out.fail(place, "not an envelope")
                continue
            listed("confirmation", place, *word)
            says = confirms(word[0], state, found.value, ev.deal.value.computingPoolId)
            if ("confirmation", word[0]) in authentic.by and not says:
                out.fail(place, f"the platform did not say that this amount of this bill was {state} then")
            if ("confirmation", word[0]) in authentic.by and state == "paid" and not is_of_level(word[0], parent_of(ev)):
                out.fail(place, "paid on another level than the buyer signed: parent or child")
    for found in (*ev.corrections, *ev.payments, *ev.refunds):
        for bill in ev.all_bills:
            number = bill.value.number
            numbered = found.value.number.startswith(f"{number}-c") if found.kind == "correction" else found.value.number == number
            out.check(numbered == (found.value.bill == bill.hash), found.field("bill"), "number and hash are of two bills")
    if ev.offer:
        listed("offer", ev.offer.name, ev.offer.value.tbs, ev.offer.value.signature, ev.offer.value.certId)
    deal, order, offer = ev.deal, ev.order, ev.offer
    if deal:
        counter = deal.value.countersignature
        listed("deal", deal.name, counter.tbs, counter.signature, counter.certId)
        counter = decoded(COUNTERSIGNATURE, counter.tbs)
        if order and counter:
            right = (counter.statement, counter.buyerSignature) == (sm3(order.value.statement), sm3(order.value.signature))
            right &= deal.value.buyerSignature == order.value.signature and counter.computingPoolId == deal.value.computingPoolId
            out.check(right, deal.field("countersignature"), "it is not over this order")
            for field in ("requirement", "contractValue", "buyer", "computingPoolId"):
                out.check(order.said[field] == deal.value[field], deal.field(field), "the order has another value")
    def link(where, named, here):
        if named is not None and here is not None:
            out.check(named == here, where, "its hash names another")
    browse_hash, order_hash = ev.browse and ev.browse.hash, order and order.hash
    deal_hash, offer_hash = deal and deal.hash, offer and offer.offer_hash
    if offer:
        link(offer.field("browse"), offer.offer.browse, browse_hash)
    if order:
        link(order.field("offer"), order.said.offer, offer_hash)
        link(order.field("follows"), order.said.follows, browse_hash)
    if deal:
        link(deal.field("offer"), deal.value.offer, offer_hash)
        link(deal.field("order"), deal.value.order.hash, order_hash)
    for score in ev.scores:
        link(score.field("offer"), score.said.offer, offer_hash)
        link(score.field("follows"), score.said.follows, deal_hash)
    bill = ev.bill
    if bill:
        link("bill.der#deal", bill.deal, deal_hash)
        link("bill.der#offer", bill.offer, offer_hash)
        stated = [found.said for found in (ev.browse, order, *ev.scores) if found]
        for said in filter(None, (deal and deal.value, offer and offer.offer, *stated)):
            for field in ("buyer", "computingPoolId"):
                out.check(said[field] == bill[field], f"bill.der#{field}", "another piece has another")
    if ev.bill_entry:
        out.check(ev.bill_entry.body == ev.bill_bytes, "bill.der", "not the bytes in the bill's entry")
    if "bill.json" in pack.files and bill:
        out.check(same_json(pack.files["bill.json"], bill_view(bill)), "bill.json", "the view says something else")
    if offer:
        if "tariff.der" in pack.files:
            same = pack.files["tariff.der"] == element(0x30, offer.offer.tariff.octets)
            out.check(same, "tariff.der", "not the price terms of the offer")
        if "contract.toml" in pack.files:
            out.check(sm3(pack.files["contract.toml"]) == offer.offer.rules, "contract.toml", "not the rule table of the offer")
        named = any(sm3(rules.value.text.encode()) == offer.offer.rules for rules in ev.rules)
        if not named and ev.rules:
            out.fail(ev.rules[0].field("text"), "not the rule table of the offer")


def bill_view(bill):
    """Section 10: `bill.json`."""
    line = lambda l: {"resource": l.resource, "unit": l.unit, "quantity": str(l.quantity), "tier": l.tier,
                      "unit_price": decimal(l.unitPrice, 10), "per": l.per, "amount": money(l.amount)}
    gap = lambda g: {"order_seq": g.orderSeq, "start": rfc3339(g.start), "end": rfc3339(g.end), "rule": g.rule,
                     "amount": money(g.amount)}
    name = lambda n: {"log": n.log, "height": n.height, "index": n.index, "hash": n.hash.hex()}
    over = {} if bill.overCeiling is None else {"over_ceiling": money(bill.overCeiling)}
    over |= {} if bill.refund is None else {"refund": money(bill.refund)}
    quality = lambda q: {"quality": QUALITIES[q.code] if q.code < len(QUALITIES) else str(q.code), "ns": str(q.ns),
                         "elapsed_ns": str(q.elapsedNs)}
    over |= {} if bill.quality is None else {"quality": [quality(one) for one in bill.quality]}
    over |= {} if bill.restsOn is None else {"rests_on": name(bill.restsOn)}
    return {
        **over, "version": bill.version, "number": bill.number, "contract_no": bill.contractNo.hex(),
        "computing_pool_id": bill.computingPoolId, "buyer": bill.buyer.hex(), "deal": bill.deal.hex(),
        "offer": bill.offer.hex(), "period_start": rfc3339(bill.periodStart), "period_end": rfc3339(bill.periodEnd),
        "first_seq": bill.firstSeq, "last_seq": bill.lastSeq,
        "last_record": name(bill.lastRecord),
        "previous_bill": bill.previousBill and bill.previousBill.hex(), "currency": bill.currency,
        "rounding_rule": bill.roundingRule, "lines": [line(l) for l in bill.lines], "gaps": [gap(g) for g in bill.gaps],
        "rounding": money(bill.rounding), "total": money(bill.total),
    }


def same_json(data, view):
    try:
        shown = json.loads(data.decode("utf-8"), parse_constant=lambda name: [name])
    except (ValueError, RecursionError):
        return False
    return json.dumps(shown, sort_keys=True) == json.dumps(view, sort_keys=True)


# ---------------------------------------------------------------- proofs (sections 2 and 10)


def read_path(text):
    """The steps of a path, or None."""
    if text is None or not re.fullmatch(r"([LR] [0-9a-f]{64}\n)*", text):
        return None
    return [(line[0] == "L", bytes.fromhex(line[2:])) for line in text.splitlines()]


def path_holds(leaf, index, count, path, root):
    """RFC 6962: the path leads from leaf `index` of `count` to the root, and has that place's form."""
    if index >= count:
        return False
    for left, _ in reversed(path):
        if count < 2:
            return False
        half = 1 << (count - 1).bit_length() - 1
        if left != (index >= half):
            return False
        index, count = (index - half, count - half) if left else (index, half)
    at = leaf
    for left, sibling in path:
        at = sm3(b"\x01" + sibling + at) if left else sm3(b"\x01" + at + sibling)
    return count == 1 and at == root


class Proven:
    """What proofs establish: headers by place, receipts that hold, places with a proof, places under a signed root."""

    def __init__(self, pack, ev, authentic, verdicts):
        self.headers, self.receipts, self.shown, self.rooted = {}, [], set(), set()
        signatures, completeness = self.verdicts = verdicts[:2]
        self.pack, self.authentic = pack, authentic
        pool, roots = ev.bill.computingPoolId if ev.bill else "", {}
        for kind in ("checkpoint", "receipt"):
            for tbs, file in authentic.files(kind):
                if kind == "checkpoint" and ev.bill:
                    signatures.check(decode(CHECKPOINT, tbs).node == pool, f"{file}#node", "of another node")
                log, size, root = self.root_of(kind, tbs)
                completeness.check(roots.setdefault((log, size), root) == root, file, "two signed roots of one size")
        names = {found.hash: found.name for found in ev.all}
        for tbs, file in authentic.files("receipt"):
            receipt = decode(RECEIPT, tbs)
            signatures.check(receipt.computingPoolId == pool, f"{file}#computingPoolId", "of another node")
            for refused in receipt.refused:
                if refused.entry in names:
                    completeness.warn(names[refused.entry], f"the platform refuses it: {refused.code}")
            self.receipts.append(receipt)
        index = pack.text("proofs/index.tsv")
        if index is None:
            completeness.fail("proofs/index.tsv", "missing")
            return
        needed = {found.place for found in [ev.bill_entry] if found}
        if ev.bill:
            last = ev.bill.lastRecord
            needed.add((last.log, last.height, last.index))
        for number, line in enumerate(lines_of(index), 1):
            columns = line.split("\t")
            if len(columns) != 5:
                completeness.fail(f"proofs/index.tsv:{number}", "not a line of the index")
            else:
                self.walk(columns, needed)
        heads = sorted(self.headers.items())
        for ((log, _, _), before), ((other, height, _), after) in zip(heads, heads[1:]):
            if log == other and after.epoch < before.epoch:
                signatures.fail(f"signed/block-{log}-{height}.tbs#epoch", f"epoch {after.epoch} after {before.epoch}")
        for (log, height, _), header in self.headers.items():
            signatures.check(header.node == pool if ev.bill else True, f"signed/block-{log}-{height}.tbs#node", "of another node")

    @staticmethod
    def root_of(kind, tbs):
        said = decode(RECEIPT if kind == "receipt" else CHECKPOINT, tbs)
        return said.log, said.size, said.root

    def path(self, name):
        if name not in self.pack.files:
            self.verdicts[1].fail(name, "missing")
            return None
        path = read_path(self.pack.text(name))
        if path is None:
            self.verdicts[1].fail(name, "not a path")
        return path

    def walk(self, columns, needed):
        signatures, completeness = self.verdicts
        entry_name, path_name, header_name, log_path, root_name = columns
        entry, told = self.pack.files.get(entry_name), entry_place(entry_name)
        if entry is None or told is None:
            return completeness.fail(entry_name, "missing")
        tbs = self.pack.files.get(header_name)
        if tbs is None:
            return signatures.fail(header_name, "missing")
        path = self.path(path_name)
        if path is None:
            return None
        place = told[0]
        self.shown.add(place)
        header = decoded(HEADER, tbs)
        if ("block", tbs) not in self.authentic.by or header is None:
            return signatures.fail(entry_name, f"{header_name} carries no valid signature")
        stands = (header.log, header.height) == place[:2] and decoded(ENTRY, entry) is not None
        if not stands or not path_holds(entry_hash(entry), place[2], header.count, path, header.root):
            return signatures.fail(entry_name, f"not under the signed root of {header_name}")
        if (log_path, root_name) != ("-", "-"):
            if self.under_root(header, tbs, log_path, root_name):
                self.rooted.add(place)
        elif place in needed:
            completeness.warn(entry_name, "no receipt or checkpoint covers this block yet")
        self.headers[place] = header
        return None

    def under_root(self, header, tbs, log_path, root_name):
        signatures = self.verdicts[0]
        path = self.path(log_path)
        if path is None:
            return False
        root_tbs = self.pack.files.get(root_name)
        kinds = [kind for kind in ("receipt", "checkpoint") if (kind, root_tbs) in self.authentic.by]
        if not kinds:
            signatures.fail(root_name, "missing, or without a valid signature")
            return False
        log, size, root = self.root_of(kinds[0], root_tbs)
        leaf = sm3(b"\x00" + sm3(tbs))
        holds = log == header.log and path_holds(leaf, header.height, size, path, root)
        signatures.check(holds, log_path, f"the block is not under the signed root of {root_name}")
        return holds

    def receipt_over(self, log, height):
        """The first receipt that acknowledges a block."""
        over = [receipt for receipt in self.receipts if receipt.log == log and receipt.size > height]
        return min(over, key=lambda receipt: receipt.size, default=None)


# ---------------------------------------------------------------- second verdict: completeness


def check_completeness(pack, ev, proven, out):
    if pack.doubled:
        out.fail("-", "the container holds a name twice")
    for name, why in pack.unreadable:
        out.fail(name, f"cannot be read: {why}")
    for name in ("tariff.der", "contract.toml"):
        out.check(name in pack.files, name, "missing")
    for name in ("README.txt", "bill.json"):
        if name not in pack.files:
            out.warn(name, "missing; it is no evidence, but belongs to every pack")
    rules = ev.rules
    if ev.offer:
        rules = [found for found in ev.rules if sm3(found.value.text.encode()) == ev.offer.offer.rules]
    for what, there in (("browse", ev.browse), ("offer", ev.offer), ("order", ev.order), ("deal", ev.deal),
                        ("rules", rules), ("bill", ev.bill_entry)):
        out.check(there, f"entries/*-{what}.der", "missing")
    if ev.bill:
        first = ev.earlier[0].value if ev.earlier else ev.bill
        out.check(first.previousBill is None, "bill.der#previousBill", "the bill before is missing")
    finance = {found.place: found.hash for found in ev.all if found.place[0] == 1}
    for link in ev.links:
        named = link.value.finance
        here = finance.get((named.log, named.height, named.index), named.hash)
        out.check(here == named.hash, link.field("finance"), "another finance entry stands there")
    if ev.bill:
        check_records(ev.bill, ev, out)
        last = ev.bill.lastRecord
        out.check((last.log, last.height, last.index) in proven.shown, "bill.der#lastRecord", "no proof that it stands in the log")
        if ev.bill_entry:
            place = ev.bill_entry.place
            out.check(place in proven.shown, ev.bill_entry.name, "no proof that it stands in the log")
            if not (place[0] < 2 and proven.receipt_over(*place[:2]) and place in proven.rooted):
                out.warn(ev.bill_entry.name, "no receipt of the platform covers the bill yet")


def known_meter(record, before):
    """Whether a record's meter is SM3 of the identity it brings, else that of the record before; the first brings one."""
    if record.identity is None:
        return record.orderSeq > 0 and before in (None, record.meter)
    octets = record.identity.octets
    size = len(octets)
    width = (size.bit_length() + 7) // 8
    length = bytes([size]) if size < 128 else bytes([0x80 | width]) + size.to_bytes(width, "big")
    return sm3(b"\x30" + length + octets)[:16] == record.meter


def check_records(bill, ev, out):
    """Section 6: the chain of usage records, from the deal or the bill before to the last one billed."""
    carried, meter, before = None, None, (ev.deal.hash, None) if ev.deal else None
    if ev.bill_before():
        carried = ev.bill_before().value.lastSeq
        found = next((found for found in ev.records if found.value.orderSeq == carried), None)
        out.check(found, "bill.der#previousBill", "its last usage record is missing")
        before = (found.hash, found.value.end) if found else None
        meter = found.value.meter if found else None
    else:
        out.check(bill.firstSeq == 0, "bill.der#firstSeq", "the first bill begins with record 0")
    due, last, count = bill.firstSeq, None, 0
    for found in ev.records:
        record = found.value
        if record.orderSeq == carried:
            continue
        count += 1
        out.check(record.orderSeq == due, found.field("orderSeq"), f"{record.orderSeq} where {due} is due")
        if before:
            out.check(record.previous == before[0], found.field("previous"), "not the hash of the record before")
            out.check(before[1] in (None, record.start), found.field("start"), "not the end of the record before")
        out.check(known_meter(record, meter), found.field("meter"), "not of counters that are known")
        meter = record.meter
        out.check(last is None or last.place < found.place, found.name, "stands before the record that it follows")
        before, due, last = (found.hash, record.end), record.orderSeq + 1, found
    out.check(bill.lastSeq - bill.firstSeq + 1 == count, "bill.der#lastSeq", f"{count} usage records are here")
    name = bill.lastRecord
    named = last and (last.hash, last.place) == (name.hash, (name.log, name.height, name.index))
    out.check(named, "bill.der#lastRecord", "another record is the last")


WRITES = {"notice": set(), "correction": set(), "refund_paid": {"platform"}, "browse": {"buyer"}, "order": {"buyer"}, "score": {"buyer"}, "deal": {"buyer", "node"}, "payment": {"platform"},
          "offer": set(), "order_status": set(), "bill": set()}
ONCE = {"browse", "offer", "order", "deal", "score"}
GUARDS = ("none", "capacity_free", "within_offer", "window_open", "amount_matches")
TEN_YEARS_S = 315_360_000


def rule_table(text):
    """Section 9: the table, or Bad with the reason."""
    def keys(value, due, spare=()):
        if not isinstance(value, dict) or set(value) - set(spare) != set(due) - set(spare) or not set(value) <= {*due, *spare}:
            raise Bad("unknown or missing keys")
    def strings(value):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        raise Bad("not TOML") from None
    keys(table, ("version", "start", "metered", "holding", "parameters", "rule"), ("timer",))
    parameters = table["parameters"]
    keys(parameters, ("gap_rating", "rounding", "offer_valid_s", "score_weights"), ("billing_period", "proration"))
    whole = lambda value, low, high: type(value) is int and low <= value <= high
    right = table["version"] == 1 and isinstance(table["start"], str) and strings(table["metered"]) and strings(table["holding"])
    right &= (parameters["gap_rating"], parameters["rounding"]) == ("free", ROUNDING)
    right &= parameters.get("billing_period", "service") in PERIODS and parameters.get("proration", "exact") in PRORATIONS
    right &= whole(parameters["offer_valid_s"], 1, TEN_YEARS_S) and isinstance(parameters["score_weights"], dict)
    if not right or not all(kind in CODES and whole(w, 0, 2**32 - 1) for kind, w in parameters["score_weights"].items()):
        raise Bad("a version or parameter that is unknown")
    rows = {}
    for row in table["rule"]:
        keys(row, ("state", "act", "signers", "guard", "writes", "next"))
        known = strings(row["signers"]) and set(row["signers"]) <= {"buyer", "node", "platform"} and row["guard"] in GUARDS
        if not known or not strings(row["writes"]) or not set(row["writes"]) <= set(WRITES) or not all(
                isinstance(row[key], str) for key in ("state", "act", "next")) or (row["state"], row["act"]) in rows:
            raise Bad("a rule that is unknown, or twice")
        if any(WRITES[write] - set(row["signers"]) for write in row["writes"]):
            raise Bad("a rule lacks the signer of what it writes")
        if "notice" in row["writes"] and (row["signers"] not in (["buyer"], ["platform"]) or row["writes"] != ["notice"]):
            raise Bad("a notice of nobody or of several, or one that comes with another entry")
        rows[row["state"], row["act"]] = row
    ways = {}
    for row in rows.values():
        ways.setdefault(row["state"], []).append(row["next"])
    @functools.cache
    def reached_from(start):
        reached, ahead = set(), [start]
        while ahead:
            state = ahead.pop()
            if state not in reached:
                reached.add(state)
                ahead += ways.get(state, [])
        return reached
    def alone(state, act):
        row = rows.get((state, act))
        return row and set(row["signers"]) <= {"node"} and row["guard"] == "none" and row["writes"] == ["order_status"]
    reached = reached_from(table["start"])
    by_period = any(act == "bill_period" for _, act in rows)
    for row in rows.values():
        is_act, later = row["act"] in ("bill", "bill_period"), {act for state, act in rows if state in reached_from(row["next"])}
        if by_period and (is_act or "bill" in row["writes"]) and not (is_act and row["writes"] == ["bill"]):
            raise Bad("a bill of another act, or an act of a bill that writes something else")
        if by_period and row["act"] == "bill" and later & {"bill", "bill_period"}:
            raise Bad("a bill after the last one")
    for row in rows.values():
        later = {write for other in rows.values() if other["state"] in reached_from(row["next"]) for write in other["writes"]}
        if later & ONCE & set(row["writes"]):
            raise Bad("what a contract has once could come a second time")
        if row["next"] in table["holding"] and row["state"] not in table["holding"] and row["guard"] != "capacity_free":
            raise Bad("capacity is taken without being free")
    for state in table["metered"]:
        if state not in table["holding"] or not alone(state, "expire") or rows[state, "expire"]["next"] in table["metered"]:
            raise Bad("a metered state holds no capacity, or does not end with the term")
    states = {state for row in rows.values() for state in (row["state"], row["next"])}
    right = all(state in reached for state, _ in rows) and any(state == table["start"] for state, _ in rows)
    right &= set(table["metered"] + table["holding"]) <= states
    for timer in table.get("timer", []):
        keys(timer, ("state", "after_s", "act"), ("from",))
        right &= timer.get("from", "state") in ("state", "bill")
        right &= bool(alone(timer["state"], timer["act"])) and whole(timer["after_s"], 0, TEN_YEARS_S)
    if not right:
        raise Bad("a state that is never reached, or a timer without its rule")
    return table["start"], rows, table["metered"], parameters


def within_offer(ev):
    if not ev.order or not ev.offer:
        return True
    said, offer = ev.order.said, ev.offer.offer
    if said.requirement is None:
        return False
    items = said.requirement["items"]
    fits = all(item.productId == offer.productId for item in items) and sum(item.quantity for item in items) <= offer.stock
    fits &= said.requirement.catalogueRevision == offer.catalogueRevision and said.requirement.termNs <= offer.termNsMax
    fits &= said.contractValue is not None and price_fits(offer, said.requirement, said.requirement.termNs, said.contractValue)
    return fits and offer.validFrom <= said.contractTime < offer.validUntil


class Due:
    """What a bill asks for after its corrections (section 3), and what was paid of it."""

    def __init__(self, found):
        self.number, self.bill, self.total = found.value.number, found.hash, found.value.total
        self.count, self.last, self.paid, self.bill_value = 0, None, None, found.value

    def take(self, found):
        """Takes a correction into account; False when it does not follow from what stood before."""
        said, amounts = found.value, [line.amount for line in found.value["adjustments"]]
        total = self.total + sum(amounts)
        follows = (said.number, said.bill, said.previous) == (f"{self.number}-c{self.count + 1}", self.bill, self.last)
        follows &= said.before == self.total and bool(amounts) and max(amounts) < 0
        if not follows or said.total != total or total < 0 or total % FEN:
            return False
        self.count, self.last, self.total = self.count + 1, found.hash, total
        return True


def names_refund(confirmation, due):
    """Whether a confirmation names what goes back of a prepaid price, and nothing where it is postpaid."""
    word = sealed(confirmation)
    payload = payload_of(word[0]) if word else None
    bill = due.bill_value
    if payload is None or "ok" not in payload["body"]:
        return bill.refund is None
    named = payload["body"]["ok"].get("refund_cny")
    if bill.refund is None or named is None:
        return bill.refund is None and named is None
    return read_money(named) == bill.refund + bill.total - due.total


def held(offer, requirement):
    """Base units that an order holds each second of each resource that the offer prices; Bad where it cannot be prepaid."""
    if not offer.tariff.prices:
        raise Bad("nothing is priced")
    rates, units = {}, sum(item.quantity for item in requirement["items"])
    for price in offer.tariff.prices:
        (code, reserved, _, _), _ = resource_key(price.resource)
        if not reserved:
            raise Bad(f"{price.resource} is priced by use")
        one = next((r.quantity for r in offer.reserves if r.resource == price.resource[9:]), 0)
        rates[price.resource] = one * units * {CODES["cpu"]: 10**6, CODES["gpu"]: 10**9}.get(code, 1)
    return rates


def price_fits(offer, requirement, term_ns, value):
    """Any ceiling, or exactly the price of the term."""
    if value.payment == POSTPAID:
        return True
    try:
        check_tariff(offer.tariff)
        rates = held(offer, requirement)
        lines = [line for price in offer.tariff.prices for line in rate_price(price, rates[price.resource] * term_ns // 10**9)]
    except Bad:
        return False
    amount = sum(line["amount"] for line in lines)
    return value.amount == amount - amount % FEN


def charged(quantities, rates, term_ns, proration):
    """What is charged of what was held: rounded up to whole steps, never more than the term has."""
    found = {}
    for name, quantity in quantities.items():
        if name in rates:
            most = rates[name] * term_ns // 10**9
            step = {"exact": 1, "hour": rates[name] * 3600, "day": rates[name] * 86400, "term": most}[proration] or 1
            found[name] = min(-(-quantity // step) * step, most)
    return found


class InForce:
    """What renewals made of the deal: end of service and contract value."""

    def __init__(self, deal):
        self.end, self.value = deal.serviceEnd, deal.contractValue

    def takes(self, renewal, offer, time, deal):
        value, end = renewal.contractValue, self.end + renewal.termNs
        fits = renewal.termNs <= offer.termNsMax and value.payment == self.value.payment and time < self.end and end < 2**63
        if value.payment == POSTPAID:
            return fits and value.amount >= self.value.amount
        return fits and end >= deal.contractTime and price_fits(offer, deal.requirement, end - deal.contractTime, value)

    def renew(self, renewal):
        if self.end + renewal.termNs < 2**63:
            self.end, self.value = self.end + renewal.termNs, renewal.contractValue


# Heights from here on are no places of the trade log.
UNPLACED = 2**64 - 2
# Entries that move a contract: the act of each kind, and the field that tells when (sections 9 and 10).
ACTS = {"browse": ("browse", "contractTime"), "order": ("order", "contractTime"), "deal": ("deal", "contractTime"),
        "score": ("score", "contractTime"), "bill": ("bill", "periodEnd"), "payment": ("pay", "paidAt"),
        "correction": ("correct", "time"), "refund_paid": ("refund", "paidAt")}


def acts_of(ev):
    """Place in the order of acts, entry, act and time. A finance entry happened where the first link to it stands; where none
    is shown, a bill comes after everything else, then what follows it by its own time."""
    links, acts = {}, []
    for link in ev.links:
        links.setdefault(link.value.finance.hash, link.place[1:])
    shown = all(found.hash in links for found in ev.all_bills)
    for found in filter(None, (ev.browse, ev.order, ev.deal, *ev.statuses, *ev.notices, *ev.all_bills, *ev.corrections,
                               *ev.payments, *ev.refunds, *ev.scores)):
        said = getattr(found, "said", None) or found.value
        act, field = ACTS.get(found.kind) or (said.act, "time")
        time = said[field]
        if found.kind == "bill":
            act = "bill" if said.restsOn is None else "bill_period"
            at = links.get(found.hash, (UNPLACED, min(found.place[1], 2**32 - 1)))
        elif found.kind in ("correction", "payment", "refund_paid"):
            at = shown and links.get(found.hash) or (UNPLACED + 1, time)
        else:
            at = found.place[1:] if shown or found.kind != "score" else (UNPLACED + 1, time)
        acts.append((at, found, act, time))
    return sorted(acts, key=lambda act: act[0])


# Billing periods (section 6).
PERIODS = ("month", "day", "hour", "service")
PRORATIONS = ("exact", "hour", "day", "term")


def boundary(period, zone, time):
    """The first boundary of the calendar that is not before a time, ns."""
    day = (datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=time // 10**9)).astimezone(zone)
    if period == "month":
        months = [day.year * 12 + day.month - 1 + more for more in range(3)]
        dates = [(month // 12, month % 12 + 1, 1) for month in months]
    else:
        near = [day.date() + datetime.timedelta(days=more) for more in range(-1, 3)]
        dates = [(date.year, date.month, date.day) for date in near]
    # Midnight as `fold=0` has it: one that is skipped by what was before, one that comes twice the first time.
    starts = [int(datetime.datetime(*date, tzinfo=zone).timestamp()) * 10**9 for date in dates]
    end = min(start for start in starts if start >= time)
    if period != "hour":
        return end
    begin = max(start for start in starts if start < time)
    return min(end, begin - (begin - time) // HOUR_NS * HOUR_NS)


def check_covers(found, before, parameters, ev, proven, in_force, out):
    """Section 6: a bill names the one before it and covers what it should."""
    bill, period = found.value, parameters.get("billing_period", "service")
    named = before[-1].hash if before else None
    out.check(bill.previousBill == named, found.field("previousBill"), "it does not name the contract's bill before it")
    tariff = ev.offer.offer.tariff if ev.offer else ev.tariff
    if tariff is None:
        return
    by_period = bill.restsOn is not None
    if period == "service" or in_force is not None and in_force.value.payment != POSTPAID:
        if by_period:
            out.fail(found.name, "this contract is billed once, at the end of service")
        return
    if not before and not by_period:
        return
    is_this = ev.bill_entry is not None and ev.bill_entry.place == found.place
    first = next((r.value.end for r in ev.records if is_this and r.value.orderSeq == bill.firstSeq), bill.periodEnd)
    try:
        zone, until = zoneinfo.ZoneInfo(tariff.calendar), None
        for earlier in before:
            until = boundary(period, zone, max(earlier.value.periodEnd, until + 1 if until is not None else earlier.value.periodEnd))
        if until is not None and first < until:
            out.fail(found.name, "the bill before left out usage of its period")
        elif by_period:
            end = boundary(period, zone, max(first, until + 1 if until is not None else first))
            header = proven.headers.get(found.place)
            if bill.periodEnd > end:
                out.fail(found.name, "it holds usage of more than one period")
            elif header is not None and header.time < end:
                out.fail(found.name, "it was made before its period was over")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OverflowError) as error:
        out.fail(found.name, f"its period cannot be computed: {error}")


def check_course(table, ev, proven, out):
    """Section 9: the contract replayed; from which places of the trade log on it is metered, and from which not."""
    state, rows, metered_states, parameters = table
    in_force, dues = ev.deal and InForce(ev.deal.value), {}
    bills, moved, metered = [], None, []
    part = any(act == "pay_part" for _, act in rows)
    for at, found, act, time in acts_of(ev):
        value = found.value
        if found.kind == "payment" and part and any(
                due.total > 0 and due.paid is None for bill, due in dues.items() if bill != value.bill):
            act = "pay_part"
        row = rows.get((state, act))
        guards = {"within_offer": within_offer(ev), "amount_matches": True, "window_open": in_force is None or time < in_force.end}
        signed, renewal = {"buyer", "node", "platform"}, None
        due = dues.get(value.bill) if found.kind in ("correction", "payment", "refund_paid") else None
        if found.kind == "notice":
            signed, renewal = {"node", "buyer" if ev.is_buyers(found) else "platform"}, found.said.renewal
            if renewal and ev.offer:
                guards["within_offer"] = in_force is not None and ev.deal is not None and in_force.takes(renewal, ev.offer.offer, time, ev.deal.value)
        elif found.kind == "payment":
            guards["amount_matches"] = due is not None and value.amount == due.total and names_refund(value.confirmation, due)
        elif found.kind == "refund_paid":
            guards["amount_matches"] = due is not None and due.paid is not None and 0 < due.paid - due.total == value.amount
        if act == "exhaust" and found.kind == "order_status" and in_force and in_force.value.payment != POSTPAID:
            out.fail(found.name, "a prepaid contract has no ceiling that could be exhausted")
        holds = row and set(row["signers"]) <= signed and guards.get(row["guard"], True) and found.kind in row["writes"]
        if not holds:
            out.fail(found.name, f"the contract does not allow {act} in state {state}")
            return metered
        if found.kind == "order_status":
            right = (value["from"], value.to) == (state, row["next"])
            out.check(right, found.name, f"the rules lead from {state} to {row['next']}")
        name = value.restsOn if found.kind in ("bill", "correction", "payment", "refund_paid") else None
        if name is not None and at[0] < UNPLACED:
            named = (name.log, name.height, name.index), name.hash
            out.check(moved == named, found.field("restsOn"), "not the newest trade entry that moved the contract before it")
        if found.kind == "refund_paid" and due:
            out.check(value.correction == due.last, found.field("correction"), "not the bill's last correction")
        if found.kind == "bill":
            check_covers(found, bills, parameters, ev, proven, in_force, out)
            bills.append(found)
        state = row["next"]
        metered.append((at, state in metered_states))
        moved = (found.place, found.hash) if found.place[0] == 0 else moved
        if found.kind == "bill":
            dues[found.hash] = Due(found)
        elif found.kind == "correction" and due:
            due.take(found)
        elif found.kind == "payment" and due:
            due.paid = value.amount
        elif renewal and in_force:
            in_force.renew(renewal)
    out.check(bills, "contract.toml", f"the rules end in state {state}, not after a bill")
    return metered


# ---------------------------------------------------------------- third verdict: data quality

AGREE_NS = 5_000_000_000
SYNCHRONISED, UNSET, MISSING, SUSPENDED = 3, 0, 2, 6


def check_quality(ev, proven, metered, out):
    last = ev.bill and (ev.bill.lastRecord.log, ev.bill.lastRecord.height, ev.bill.lastRecord.index)
    bill_at = ev.bill_entry and ev.bill_entry.place
    agrees = False
    for place, header in proven.headers.items():
        name = f"signed/block-{place[0]}-{place[1]}.tbs#time"
        if place == bill_at and header.quality.state == UNSET:
            out.fail(name, "the clock was never set when this was billed")
        receipt = proven.receipt_over(*place[:2])
        if receipt is None:
            continue
        ahead = header.time - receipt.storedAt
        out.check(ahead <= AGREE_NS, name, "the platform already held this block before its time")
        agrees |= -AGREE_NS <= ahead <= AGREE_NS and place in (last, bill_at)
    for found in ev.records:
        record = found.value
        is_gap = record.reason in (4, 5)
        if is_gap:
            out.warn(found.name, f"not measured from {rfc3339(record.start)} to {rfc3339(record.end)}: {record.why or '-'}")
        elif any(reading.status for reading in record.readings):
            for number, reading in enumerate(record.readings):
                if reading.status:
                    how = "missing" if reading.status == MISSING else "estimated"
                    out.warn(found.field(f"readings.{number}"), f"{resource_name(reading) or reading.code} is {how}: {reading.why or '-'}")
        before = [is_metered for at, is_metered in metered if at < found.place[1:]]
        if record.reason == SUSPENDED and record.end > record.start and before and before[-1]:
            out.warn(found.name, "not measured: the record says suspended, the contract was not")
        if record.end < record.start:
            out.fail(found.field("end"), "the interval ends before it begins")
            continue
        if not is_gap and abs(record.end - record.start - min(record.elapsedNs, 2**63 - 1)) > AGREE_NS:
            out.warn(found.field("elapsedNs"), "the wall clock gives another length")
        if record.quality.state != SYNCHRONISED and not agrees:
            out.warn(found.field("quality"), "the clock was not synchronised and nothing corroborates it")
    for found in ev.windows:
        if any(total.check == "violated" for total in found.value.totals):
            out.warn(found.field("totals"), "orders together used more than the host has counted")


# ---------------------------------------------------------------- fourth verdict: arithmetic (section 6)


def qualifier_is_right(text):
    control = any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    return 1 <= len(text.encode()) <= 64 and not control


def resource_name(reading):
    """The name of a code and qualifier, or None."""
    index, prefix = (reading.code - 32, "reserved_") if reading.code >= 32 else (reading.code, "")
    if index >= len(RESOURCES) or reading.qualifier is not None and not qualifier_is_right(reading.qualifier):
        return None
    return prefix + RESOURCES[index][0] + (f":{reading.qualifier}" if reading.qualifier is not None else "")


def resource_key(name):
    """How resources are ordered: kind, used before reserved, qualifier; with it the row of the table."""
    base, colon, qualifier = name.partition(":")
    reserved = base.startswith("reserved_")
    code = CODES.get(base[9:] if reserved else base)
    if code is None or colon and not qualifier_is_right(qualifier):
        raise Bad(f"{name} is no resource")
    return (code, reserved, colon != "", qualifier.encode()), RESOURCES[code]


def check_tariff(tariff):
    if (tariff.currency, tariff.rounding) != ("CNY", ROUNDING):
        raise Bad("currency or rounding is unknown")
    zones = {zone.lower() for zone in zoneinfo.available_timezones()}
    if zones and tariff.calendar.lower() not in zones:
        raise Bad("the calendar is no time zone")
    last = None
    for price in tariff.prices:
        key, (_, _, per, _) = resource_key(price.resource)
        bounds = [tier.upTo for tier in price.tiers]
        rising = bounds and bounds[-1] is None and None not in bounds[:-1] and 0 not in bounds[:-1]
        rising = rising and all(low < high for low, high in zip(bounds[:-2], bounds[1:-1]))
        right = rising and price.per == per and (price.scheme == 0) == (len(bounds) == 1)
        if not right or last is not None and last >= key or any(tier.price < 0 for tier in price.tiers):
            raise Bad(f"the price of {price.resource} is not in order")
        last = key


def rate_line(price, row, tier, quantity):
    name, unit, per, units = row
    if tier >= len(price.tiers):
        raise Bad("too many tiers")
    whole, rest = divmod(quantity * price.tiers[tier].price, units * 100)
    amount = whole + (2 * rest > units * 100 or 2 * rest == units * 100 and whole % 2 == 1)
    if quantity * price.tiers[tier].price >= 2**128 or amount >= 2**127:
        raise Bad("an amount beyond 128 bits")
    return {"resource": price.resource, "unit": unit, "quantity": quantity, "tier": tier + 1,
            "unitPrice": price.tiers[tier].price, "per": per, "amount": amount}


def rate_price(price, quantity):
    row = resource_key(price.resource)[1]
    if price.scheme != 1:
        reached = next((n for n, tier in enumerate(price.tiers) if tier.upTo is None or quantity <= tier.upTo), 0)
        return [rate_line(price, row, reached, quantity)]
    lines, below = [], 0
    for number, tier in enumerate(price.tiers):
        upper = quantity if tier.upTo is None else min(tier.upTo, quantity)
        if upper > below or number == 0 and quantity == 0:
            lines.append(rate_line(price, row, number, upper - below))
            below = upper
    return lines


def add_up(before, records):
    """Quantity of each resource that the period read: last total less the total billed before."""
    running = {}
    for reading in before.readings if before else []:
        if reading.total is not None:
            running[named(reading)] = [reading.total, reading.total, False]
    for record in records:
        for reading in record.readings:
            name = named(reading)
            if (reading.delta is None) != (reading.status == MISSING):
                raise Bad(f"record {record.orderSeq}: {name} has a delta exactly when it is not missing")
            run = running.get(name)
            if reading.total is None:
                if run or reading.delta is not None:
                    raise Bad(f"record {record.orderSeq}: {name} lost its total")
                continue
            total = (run[1] if run else 0) + (reading.delta or 0)
            if total != reading.total:
                raise Bad(f"record {record.orderSeq}: {name} totals {reading.total} where its deltas give {total}")
            if record.reason in (4, 5) and reading.delta:
                raise Bad(f"record {record.orderSeq}: {name} has usage in a gap")
            if record.reason == SUSPENDED and reading.delta:
                raise Bad(f"record {record.orderSeq}: {name} has usage while suspended")
            run = running.setdefault(name, [0, 0, False])
            run[1:] = total, run[2] or reading.delta is not None
        check_delivered(record, before)
        before = record
    return {name: total - billed for name, (billed, total, read) in running.items() if read}


QUALITIES = ("cpu_throttled", "cpu_stolen", "cpu_stalled", "memory_stalled", "io_stalled", "gpu_throttled")


def check_delivered(record, before):
    """Each quality once and in order; total = total before + delta, and neither is lost; what is missing has its reason."""
    said, place = record.delivered or [], f"record {record.orderSeq}: "
    codes = [one.code for one in said]
    if record.delivered == [] or codes != sorted(set(codes)) or any(code >= len(QUALITIES) for code in codes):
        raise Bad(place + "qualities that are none, none at all, or out of order")
    totals = {one.code: one.total for one in before.delivered or [] if one.total is not None} if before else {}
    if not totals.keys() <= set(codes):
        raise Bad(place + "a quality lost its total")
    for one in said:
        old, name = totals.get(one.code), place + QUALITIES[one.code]
        if one.total is None and (one.delta is not None or old is not None):
            raise Bad(name + " lost its total")
        if one.total is not None and one.total != (old or 0) + (one.delta or 0):
            raise Bad(name + f" totals {one.total} where its deltas give {(old or 0) + (one.delta or 0)}")
        if record.reason in (4, 5, SUSPENDED) and one.delta:
            raise Bad(name + " in time that was not served")
        if one.delta is None and one.why is None:
            raise Bad(name + " is missing without a reason")


def named(reading):
    name = resource_name(reading)
    if name is None:
        raise Bad(f"code {reading.code} is no resource")
    return name


def in_force_for_bill(ev):
    """What renewals had made of the deal when the bill was made; None without a deal."""
    if not ev.deal:
        return None
    in_force = InForce(ev.deal.value)
    billed = next((link.place for link in ev.links if ev.bill_entry and link.value.finance.hash == ev.bill_entry.hash), None)
    for notice in ev.notices:
        if notice.said.renewal and (billed is None or notice.place < billed):
            in_force.renew(notice.said.renewal)
    return in_force


def recompute(bill, ev, proration):
    """The bill from usage records and the offer's price terms."""
    if not ev.deal or not ev.offer:
        raise Bad("no deal or no offer")
    tariff, before, count = ev.offer.offer.tariff, None, 1
    if ev.bill_before():
        last = ev.bill_before().value.lastSeq
        before = next((found.value for found in ev.records if found.value.orderSeq == last), None)
        if before is None:
            raise Bad("the last usage record of the bill before is missing")
        count = len(ev.earlier) + 1
    first = before.orderSeq + 1 if before else 0
    records = [found.value for found in ev.records if found.value.orderSeq >= first]
    if not records:
        raise Bad("no usage record in the period")
    for due, record in enumerate(records, first):
        if record.orderSeq != due:
            raise Bad(f"record {record.orderSeq} where {due} is due")
    check_tariff(tariff)
    quantities, in_force = add_up(before, records), in_force_for_bill(ev)
    if in_force.value.payment != POSTPAID:
        rates = held(ev.offer.offer, ev.deal.value.requirement)
        if in_force.end < ev.deal.value.contractTime:
            raise Bad("the term is negative")
        quantities = charged(quantities, rates, in_force.end - ev.deal.value.contractTime, proration)
    lines = [line for price in tariff.prices if price.resource in quantities
             for line in rate_price(price, quantities[price.resource])]
    amount = sum(line["amount"] for line in lines)
    whole = total = amount - amount % FEN
    value, refund = in_force.value, None
    if value.payment != POSTPAID:
        price = value.amount - value.amount % FEN
        total = min(whole, price)
        refund = price - total
    else:
        left = max(0, value.amount - sum(bill.value.total for bill in ev.earlier))
        total = min(whole, left - left % FEN)
    gaps = [{"orderSeq": r.orderSeq, "start": r.start, "end": r.end, "rule": "free", "amount": 0}
            for r in records if r.reason in (4, 5)]
    return {"number": f"{bill.contractNo.hex()}-{count}", "periodStart": records[0].start, "periodEnd": records[-1].end,
            "firstSeq": records[0].orderSeq, "lastSeq": records[-1].orderSeq, "currency": tariff.currency,
            "roundingRule": tariff.rounding, "lines": lines, "gaps": gaps, "rounding": whole - amount,
            "overCeiling": total - whole or None, "total": total, "refund": refund, "quality": quality_lines(before, records)}


def quality_lines(before, records):
    """One for each quality that a served record of the period read, or None: time since the bill before, and for how long it was read."""
    said = lambda record: {one.code: one for one in record.delivered or []} if record else {}
    lines = []
    for code, now in said(records[-1]).items():
        read = [r.elapsedNs for r in records if r.reason not in (4, 5, SUSPENDED) and code in said(r) and said(r)[code].delta is not None]
        if read and now.total is not None:
            old = said(before)[code].total if code in said(before) else None
            if sum(read) >= 2**64:
                raise Bad("a quality read for longer than 64 bits tell")
            lines.append({"code": code, "ns": now.total - (old or 0), "elapsedNs": sum(read)})
    return lines or None


def corrected(ev, bill, out):
    """What a bill asks for after its corrections, each of which must follow from what stood before."""
    due = Due(bill)
    for found in ev.corrections:
        if found.value.bill == bill.hash:
            out.check(due.take(found), found.name, "it does not follow from the bill and its corrections before")
            out.check(found.value.computingPoolId == bill.value.computingPoolId, found.field("computingPoolId"), "of another node")
    return due


def check_arithmetic(pack, ev, proration, out):
    """The recomputed total and what is due after corrections."""
    said = ev.order and ev.order.said.requirement
    if said and "tariff.der" in pack.files:
        out.check(sm3(pack.files["tariff.der"]) == said.tariff, "tariff.der", "not the price terms that the buyer signed")
    if said and ev.offer:
        same = sm3(element(0x30, ev.offer.offer.tariff.octets)) == said.tariff
        out.check(same, ev.offer.field("tariff"), "not the price terms that the buyer signed")
    bill = ev.bill
    if bill is None:
        out.fail("bill.der", "no readable bill")
        return None, None
    for other in ev.all_bills:
        if ev.bill_entry is None or other.place != ev.bill_entry.place:
            corrected(ev, other, out)
    due, found = corrected(ev, ev.bill_entry, out) if ev.bill_entry else None, Verdict()
    amounts = [part.amount for part in (*bill.lines, *bill.gaps)]
    whole = sum(amounts) + bill.rounding + (bill.overCeiling or 0)
    found.check(whole == bill.total, "bill.der#total", "lines, gaps, rounding and overCeiling do not add up")
    in_force = in_force_for_bill(ev)
    value = in_force.value if in_force else ev.order and ev.order.said.contractValue
    if value:
        found.check(bill.total <= value.amount, "bill.der#total", "above the amount that the buyer signed")
    right = None
    try:
        again = recompute(bill, ev, proration)
        right = again["total"]
        for field, computed in again.items():
            told = bill[field]
            # Corrections mend amounts: under another number or currency it is another bill.
            to = out if field in ("number", "currency") else found
            to.check(told == computed, f"bill.der#{field}", f"the bill says {told}, recomputing gives {computed}")
    except Bad as error:
        out.fail("bill.der", f"cannot recompute the bill: {error}")
    asked = due.total if due and due.count else None
    # What a correction took off is no longer asked for: then the bill's mistakes are history.
    is_history = None not in (asked, right) and asked <= right
    for result, where, what in found.problems:
        out.note("warn" if is_history else result, where, what)
    if asked is not None and right is not None and asked > right:
        out.fail("bill.der#total", f"after its corrections {money(asked)} CNY are due, {money(right)} follow from the usage")
    elif asked is not None:
        out.warn("bill.der#total", f"corrected: {money(asked)} CNY are due")
    return right, due.total if due else bill.total


# ---------------------------------------------------------------- all together

NAMES = ("signatures", "completeness", "data_quality", "arithmetic")


def verify(data, anchors, openssl):
    """The four verdicts, the billed total, the recomputed one and what is due."""
    pack = Pack(data)
    verdicts = signatures, completeness, quality, arithmetic = [Verdict() for _ in NAMES]
    ev = Evidence(pack, pieces(pack, completeness), verdicts)
    trust = Trust(pack, anchors, openssl, signatures)
    authentic = Authentic(pack, trust, signatures)
    check_links(pack, ev, authentic, signatures)
    check_rotations(ev, authentic, trust, signatures)
    proven = Proven(pack, ev, authentic, verdicts)
    check_completeness(pack, ev, proven, completeness)
    text, metered, proration = pack.text("contract.toml"), [], "exact"
    if text is not None:
        try:
            table = rule_table(text)
            proration = table[3].get("proration", "exact")
            metered = check_course(table, ev, proven, completeness)
        except Bad as error:
            completeness.warn("contract.toml", f"cannot judge the contract's course: {error}")
    check_quality(ev, proven, metered, quality)
    recomputed, due = check_arithmetic(pack, ev, proration, arithmetic)
    return verdicts, ev.bill.total if ev.bill else None, recomputed, due, parent_shown(ev)


def parent_shown(ev):
    """The parent order of a child as `hufu verify --json` shows it, or None."""
    parent = parent_of(ev)
    if parent is None:
        return None
    words = [sealed(found.value.confirmation) for found in ev.payments]
    named = [named_parent_bill(word[0]) for word in words if word and is_of_level(word[0], parent)]
    return {"parent_no": parent.parentNo.hex(), "payable": ("child", "parent")[parent.payable], "children": parent.children,
            "parent_bills": [bill for bill in named if bill]}


def judge(path, anchors, openssl):
    """What is said of one file, and its exit status."""
    try:
        verdicts, billed, recomputed, due, parent = verify(pathlib.Path(path).read_bytes(), anchors, openssl)
    except OSError as error:
        return {"file": path, "exit": 74, "error": str(error)}
    except NoPack as error:
        return {"file": path, "exit": 65, "error": str(error)}
    shown = {name: {"result": v.result, "problems": [{"where": w, "what": what} for _, w, what in v.problems]}
             for name, v in zip(NAMES, verdicts)}
    failed = any(verdict.result == "fail" for verdict in verdicts)
    return {"file": path, "exit": int(failed), "verdicts": shown, "billed_total_cny": money(billed),
            "recomputed_total_cny": money(recomputed), "due_total_cny": money(due), "parent": parent}


def main():
    parser = argparse.ArgumentParser(description="Reaches the four verdicts over evidence packs.")
    parser.add_argument("--trust", action="append", required=True, metavar="CA.pem", help="PEM file of trust anchors")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each pack")
    parser.add_argument("packs", nargs="+", metavar="PACK")
    arguments = parser.parse_args()
    anchors = []
    for path in arguments.trust:
        try:
            anchors += [Certificate(der) for der in pem_blocks(pathlib.Path(path).read_text("utf-8"), "CERTIFICATE")]
        except OSError as error:
            print(f"verify.py: {error}", file=sys.stderr)
            return 74
        except (Bad, UnicodeDecodeError) as error:
            print(f"verify.py: {path}: {error}", file=sys.stderr)
            return 65
    openssl, worst = OpenSsl(), 0
    for path in arguments.packs:
        said = judge(path, anchors, openssl)
        worst = max(worst, said["exit"])
        if arguments.json:
            print(json.dumps(said), flush=True)
        elif "error" in said:
            print(f"{path}: {said['error']}", file=sys.stderr)
        else:
            print(f"billed {said['billed_total_cny']} CNY, recomputed {said['recomputed_total_cny']} CNY, "
                  f"due {said['due_total_cny']} CNY")
            if said["parent"]:
                how = "payable through parent" if said["parent"]["payable"] == "parent" else "payable by itself, child of parent"
                print(f"{how} {said['parent']['parent_no']}, one of {said['parent']['children']} children")
            for name, verdict in said["verdicts"].items():
                print(f"{name}: {verdict['result']}")
                for problem in verdict["problems"]:
                    print(f"    {problem['where']}: {problem['what']}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
