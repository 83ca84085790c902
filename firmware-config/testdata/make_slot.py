#!/usr/bin/env python3
"""Makes slot-v1.hex from the table in the crate's documentation alone: an independent second writer of the format.

    python3 make_slot.py > slot-v1.hex

The signature is a stand-in (the bytes 30 03 02 01 05); the fill of ff is left out.
"""
import struct
import zlib


def text(value):
    return bytes([len(value)]) + value.encode("ascii")


record = text("SN-0001") + text("site-a") + text("node_1")
record += bytes([2])
record += bytes([0, 1]) + bytes([0xA1] * 32) + text("/etc/hufu/node.pem")
record += bytes([5, 3]) + bytes([0xA2] * 32) + text("tls")
record += bytes([1])
record += text("mqtt.example.org") + struct.pack(">H", 8883) + bytes([1]) + bytes([0xB1] * 32)

signed = b"HUFU" + struct.pack(">HHQ", 1, len(record), 7) + record
signature = bytes([0x30, 0x03, 0x02, 0x01, 0x05])
covered = signed + bytes([len(signature)]) + signature
print((covered + struct.pack(">I", zlib.crc32(covered))).hex())
