#!/usr/bin/env python3
"""A signer of docs/signer.md that is not ours: python's sockets, and openssl for the signature.

    openssl_signer.py KEY.pem SOCKET MODE_FILE OTHER_KEY.pem

The word in MODE_FILE, read for each question, says how it behaves: good, or one way of being bad.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

key, path, mode_file, other = sys.argv[1:]


def public_key(name):
    der = subprocess.run(["openssl", "pkey", "-in", name, "-pubout", "-outform", "DER"], check=True, capture_output=True)
    return der.stdout[-65:].hex()


def sign(name, digest):
    with tempfile.TemporaryDirectory() as folder:
        at = os.path.join(folder, "digest")
        with open(at, "wb") as file:
            file.write(digest)
        ran = subprocess.run(["openssl", "pkeyutl", "-sign", "-inkey", name, "-in", at], check=True, capture_output=True)
        return ran.stdout


def answer(question, mode):
    if question["ask"] == "public_key":
        return {"public_key": OTHER if mode == "other" else OWN}
    if question["ask"] != "sign" or question["public_key"] != OWN:
        return {"error": "what?"}
    digest = bytes.fromhex(question["digest"])
    assert len(digest) == 32
    if mode == "refuses":
        return {"error": "the token is locked"}
    if mode == "wrong":
        digest = bytes([digest[0] ^ 1]) + digest[1:]
    return {"signature": sign(other if mode == "other" else key, digest).hex()}


OWN, OTHER = public_key(key), public_key(other)
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("ready", flush=True)
while True:
    stream, _ = listener.accept()
    with stream:
        try:
            line = stream.makefile("rb").readline(2048)
            with open(mode_file) as file:
                mode = file.read().strip()
            said = json.dumps(answer(json.loads(line), mode)).encode() + b"\n"
            if mode == "garbage":
                said = os.urandom(64) + b"\n"
            if mode == "endless":
                said = b"{" * 1000000
            if mode == "half":
                said = said[: len(said) // 2]
            if mode == "slow":
                time.sleep(1.5)
            if mode == "drip":
                for octet in said:
                    stream.sendall(bytes([octet]))
                    time.sleep(0.1)
                continue
            stream.sendall(said)
            if mode == "dies":
                os._exit(1)
        except (OSError, ValueError):
            pass
