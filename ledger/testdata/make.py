#!/usr/bin/env python3
"""Makes the golden vectors of this directory with nothing of ours: DER by hand, SM3 and SM2 by the openssl command.

Run here: python3 make.py     (OpenSSL 3.0.19 made the files that are checked in; signatures differ from run to run)
Hashes:     openssl dgst -sm3 -binary
Signatures: openssl dgst -sm3 -sign key.pem -sigopt distid:1234567812345678
"""
import os
import subprocess


def run(*args, data=b""):
    return subprocess.run(args, input=data, stdout=subprocess.PIPE, check=True).stdout


def sm3(data):
    return run("openssl", "dgst", "-sm3", "-binary", data=data)


def hmac_sm3(key, data):
    key = key.ljust(64, b"\0")
    inner = sm3(bytes(b ^ 0x36 for b in key) + data)
    return sm3(bytes(b ^ 0x5C for b in key) + inner)


def sign(data):
    with open("tbs.tmp", "wb") as file:
        file.write(data)
    signature = run("openssl", "dgst", "-sm3", "-sign", "key.pem", "-sigopt", "distid:1234567812345678", "tbs.tmp")
    os.remove("tbs.tmp")
    return signature


def tlv(tag, body):
    n = len(body)
    if n < 128:
        return bytes([tag, n]) + body
    length = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(length)]) + length + body


def integer(n):
    return tlv(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def octets(b):
    return tlv(4, b)


def sequence(*parts):
    return tlv(0x30, b"".join(parts))


def entry(log, height, index, kind, body):
    place = bytes([log]) + height.to_bytes(8, "big") + index.to_bytes(4, "big")
    salt = hmac_sm3(bytes([3] * 32), b"hufu-salt-v1" + place)[:16]
    return sequence(octets(salt), integer(kind), octets(body))


def root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sm3(b"\1" + root(leaves[:k]) + root(leaves[k:]))


def header(log, height, previous, top, count, version=1, node="node-1"):
    quality = sequence(tlv(10, b"\3"), integer(500))
    return sequence(integer(version), tlv(10, bytes([log])), tlv(12, node.encode()), integer(0), integer(height),
                    octets(previous), integer(1_700_000_000_000_000_000 + height), quality, octets(top), integer(count))


def block(tbs, entries, signature=None):
    signed = sequence(octets(tbs), octets(bytes([2] * 32)), octets(signature or sign(tbs)))
    return sequence(signed, sequence(*[octets(e) for e in entries]))


def write(name, expect, data):
    lines = [data.hex()[i:i + 120] for i in range(0, len(data.hex()), 120)]
    with open(name, "w") as file:
        file.write(f"expect: {expect}\nmade by: make.py with openssl\n\n" + "\n".join(lines) + "\n")


if not os.path.exists("key.pem"):
    run("openssl", "genpkey", "-algorithm", "SM2", "-out", "key.pem")
with open("public.pem", "wb") as file:
    file.write(run("openssl", "pkey", "-in", "key.pem", "-pubout"))

first = [entry(1, 0, i, 7 + i, b"first %d" % i) for i in range(3)]
leaves0 = [sm3(b"\0" + e) for e in first]
tbs0 = header(1, 0, bytes(32), root(leaves0), 3)
hash0 = sm3(tbs0)
second = [entry(1, 1, i, 65535, b"second %d" % i) for i in range(5)]
leaves1 = [sm3(b"\0" + e) for e in second]
tbs1 = header(1, 1, hash0, root(leaves1), 5)
hash1 = sm3(tbs1)

write("block-0.txt", "good at height 0", block(tbs0, first))
write("block-1.txt", "good at height 1", block(tbs1, second))
write("wrong-parent.txt", "wrong parent", block(header(1, 1, bytes(32), root(leaves1), 5), second))
write("wrong-root.txt", "wrong root", block(tbs1, second[:4] + [entry(1, 1, 4, 65535, b"other")]))
write("wrong-count.txt", "count 5, but 4 entries", block(tbs1, second[:4]))
write("no-entries.txt", "no entries", block(header(1, 1, hash0, sm3(b""), 0), []))
write("wrong-height.txt", "height 2 where 1 belongs", block(header(1, 2, hash0, root(leaves1), 5), second))
write("other-log.txt", "block of the trade log", block(header(0, 1, hash0, root(leaves1), 5), second))
write("other-node.txt", 'block of node "node-2"', block(header(1, 1, hash0, root(leaves1), 5, node="node-2"), second))
write("version.txt", "version 2 is unknown", block(header(1, 1, hash0, root(leaves1), 5, version=2), second))
write("bad-signature.txt", "bad signature", block(tbs1, second, sign(tbs0)))
write("malformed-signature.txt", "malformed signature", block(tbs1, second, b"\x30\x00"))
many = [entry(1, 1, i, 1, b"") for i in range(65)]
top = root([sm3(b"\0" + e) for e in many])
write("too-many-entries.txt", "65 entries, more than a block may hold", block(header(1, 1, hash0, top, 65), many))
large = [entry(1, 1, 0, 1, bytes(41000))]
size = len(large[0])
write("too-many-bytes.txt", f"{size} entry bytes, more than a block may hold",
      block(header(1, 1, hash0, sm3(b"\0" + large[0]), 1), large))
not_der = "not the canonical DER that belongs here"
good = block(tbs1, second)
write("trailing-byte.txt", not_der, good + b"\0")
write("long-length.txt", not_der, b"\x30\x83\x00" + good[2:])
write("entry-not-der.txt", not_der, block(header(1, 1, hash0, sm3(b"\0" + b"junk"), 1), [b"junk"]))

tops = [sm3(b"\0" + hash0), sm3(b"\0" + hash1)]
quality = [integer(1), tlv(10, b"\1"), tlv(12, b"node-1"), integer(0), integer(2), octets(root(tops)), integer(42)]
checkpoint = sequence(*quality)
write("checkpoint.txt", "good", sequence(octets(checkpoint), octets(bytes([2] * 32)), octets(sign(checkpoint))))
with open("hashes.txt", "w") as file:
    file.write("expect: these hashes\nmade by: make.py with openssl\n\n")
    for name, value in [("entry-1-0-2", leaves0[2]), ("path-1-0-2", sm3(b"\1" + leaves0[0] + leaves0[1])),
                        ("block-1-0", hash0), ("block-1-1", hash1), ("root-1-2", root(tops))]:
        file.write(f"{name} {value.hex()}\n")
