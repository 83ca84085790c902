"""What is signed and stored, from docs/evidence.md and docs/evidence.asn1: DER, SM3, SM2 by openssl, certificates, hash trees.

Section numbers are those of docs/evidence.md. Messages are wire.py, amounts money.py.
"""
import hashlib
import pathlib
import re
import subprocess
import tempfile

import asn1tools

ROOT = pathlib.Path(__file__).resolve().parents[3]
DISTID = "distid:1234567812345678"


class Bad(Exception):
    """Octets that are not what they should be; `code` is one of docs/if2.md section 4."""

    def __init__(self, code, why):
        super().__init__(f"{code}: {why}")
        self.code = code


def sm3(data):
    return hashlib.new("sm3", data).digest()


# ---------------------------------------------------------------- DER (section 1)

MODULE = asn1tools.compile_files(str(ROOT / "docs" / "evidence.asn1"), "der")


def encode(name, value):
    return MODULE.encode(name, value, check_constraints=True)


def decode(name, data):
    """Strict: what is encoded again must be the octets received."""
    try:
        value = MODULE.decode(name, data, check_constraints=True)
        again = MODULE.encode(name, value, check_constraints=True)
    except Exception as error:  # asn1tools has many ways to say no
        raise Bad("malformed", f"{name}: {error}") from None
    if again != data:
        raise Bad("malformed", f"{name} has another encoding")
    return value


# ---------------------------------------------------------------- hash trees (section 2)


def entry_hash(entry):
    return sm3(b"\x00" + entry)


def root_of(leaves):
    """RFC 6962 with SM3; the left subtree is the largest power of two smaller than the count."""
    if not leaves:
        return sm3(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sm3(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:]))


# ---------------------------------------------------------------- openssl


class Openssl:
    """Files and commands; nothing here knows a curve."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.count = 0

    def file(self, data):
        self.count += 1
        path = pathlib.Path(self.folder.name) / str(self.count)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    def run(self, *words, data=None):
        done = subprocess.run(["openssl", *words], input=data, capture_output=True)
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    def must(self, *words, data=None):
        code, out, said = self.run(*words, data=data)
        if code:
            raise RuntimeError(f"openssl {' '.join(words)}: {said}")
        return out


OPENSSL = Openssl()


class Certificate:
    """One X.509 certificate, by its DER."""

    def __init__(self, der):
        self.der, self.id = der, sm3(der)
        code, pem, said = OPENSSL.run("x509", "-inform", "DER", data=der)
        if code:
            raise Bad("malformed", f"no certificate: {said}")
        self.pem = OPENSSL.file(pem)
        self.key = OPENSSL.file(OPENSSL.must("x509", "-in", self.pem, "-noout", "-pubkey"))

    @classmethod
    def of_pem(cls, path):
        return cls(OPENSSL.must("x509", "-in", path, "-outform", "DER"))

    def verifies(self, tbs, signature):
        """Section 1: SM2 with SM3 and the user id, the signature as DER."""
        words = ["-verify", self.key, "-sigopt", DISTID, "-signature", OPENSSL.file(signature), OPENSSL.file(tbs)]
        return OPENSSL.run("dgst", "-sm3", *words)[0] == 0

    def names(self):
        """Section 8: the only common name, and the DNS names of subjectAltName."""
        subject = OPENSSL.must("x509", "-in", self.pem, "-noout", "-subject", "-nameopt", "sep_multiline,utf8").decode()
        common = re.findall(r"^\s*CN=(.*)$", subject, re.M)
        alternative = OPENSSL.run("x509", "-in", self.pem, "-noout", "-ext", "subjectAltName")[1].decode()
        return (common if len(common) == 1 else []), re.findall(r"DNS:([^,\s]+)", alternative)

    def is_of(self, pool):
        site, node = pool.split("/")
        common, dns = self.names()
        return common == [pool] or f"{node}.{site}" in dns


def check_chain(chain, anchor):
    """Section 8: leaf first, without the anchor; the leaf signs."""
    if not chain:
        raise Bad("certificate", "an empty chain")
    leaf, *issuers = [Certificate(der) for der in chain]
    words = ["-CAfile", anchor, "-vfyopt", DISTID]
    if issuers:
        words += ["-untrusted", OPENSSL.file(b"".join(pathlib.Path(one.pem).read_bytes() for one in issuers))]
    code, _, said = OPENSSL.run("verify", *words, leaf.pem)
    if code:
        raise Bad("certificate", said.strip().replace("\n", "; "))
    if b"Digital Signature" not in OPENSSL.must("x509", "-in", leaf.pem, "-noout", "-ext", "keyUsage"):
        raise Bad("certificate", "keyUsage of the leaf lacks digitalSignature")
    return leaf


class Signer:
    """A key file and its certificate."""

    def __init__(self, key, cert):
        self.key, self.certificate = key, Certificate.of_pem(cert)
        self.id, self.chain = self.certificate.id, [self.certificate.der]

    def sign(self, data):
        return OPENSSL.must("dgst", "-sm3", "-sign", self.key, "-sigopt", DISTID, OPENSSL.file(data))

    def signed(self, tbs):
        """DER of Signed."""
        return encode("Signed", {"tbs": tbs, "certId": self.id, "signature": self.sign(tbs)})


def opened(name, data, certificate):
    """The tbs of a Signed, decoded, and its octets; the signer must be that certificate."""
    signed = decode("Signed", data)
    if signed["certId"] != certificate.id:
        raise Bad("certificate", f"{name} is signed by another")
    if not certificate.verifies(signed["tbs"], signed["signature"]):
        raise Bad("signature", f"{name} is not signed by that key")
    return decode(name, signed["tbs"]), signed["tbs"]


# ---------------------------------------------------------------- a node's log (section 2)

LOGS = ("trade", "finance")


class Log:
    """The blocks of one log as the platform holds them."""

    def __init__(self, number, pool):
        self.number, self.pool = number, pool
        self.blocks, self.headers, self.entries = [], [], []

    def __len__(self):
        return len(self.blocks)

    def root(self, size=None):
        return root_of([sm3(b"\x00" + sm3(tbs)) for tbs in self.headers[:size]])

    def read(self, der, height, certificates):
        """Section 2, rules 1 to 6, for a block at this height; its header's octets and its entries."""
        block = decode("Block", der)
        signed = block["header"]
        header = decode("BlockHeader", signed["tbs"])
        signer = certificates.get(signed["certId"])
        if signer is None:
            raise Bad("certificate", "a block under an unknown certificate")
        if not signer.verifies(signed["tbs"], signed["signature"]):
            raise Bad("signature", "a block's signature")
        if (header["log"], header["node"], header["height"]) != (LOGS[self.number], self.pool, height):
            raise Bad("malformed", "a block of another log, node or height")
        before = sm3(self.headers[height - 1]) if height else bytes(32)
        if header["previous"] != before:
            raise Bad("duplicate", "a block with another parent: a fork")
        hashes = [entry_hash(entry) for entry in block["entries"]]
        if header["count"] != len(hashes) or header["root"] != root_of(hashes) or sum(map(len, block["entries"])) > 40_960:
            raise Bad("malformed", "a block's header is not of its entries")
        return signed["tbs"], [(decode("Entry", entry), entry) for entry in block["entries"]]

    def append(self, der, tbs, entries):
        height = len(self.blocks)
        self.blocks.append(der)
        self.headers.append(tbs)
        self.entries += [(height, index, entry, octets) for index, (entry, octets) in enumerate(entries)]

    def of_kind(self, kind):
        return [(height, index, entry["body"], octets) for height, index, entry, octets in self.entries if entry["kind"] == kind]
