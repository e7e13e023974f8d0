"""Writes the fuzzers' first inputs, made of the golden vectors.

Usage: python3 seed.py VECTORS CORPUS
"""
import gzip
import json
import pathlib
import struct
import sys
import zlib

vectors, corpus = map(pathlib.Path, sys.argv[1:])


def seed(target, data):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ("seed-%08x" % zlib.crc32(data))).write_bytes(data)


def pickled(data):
    seed("pickle", data)
    seed("message", data)
    for mode in (4, 5, 6, 7):
        seed("session", bytes([mode | 0xF8]) + data)


for folder in vectors.glob("pysyncobj-*"):
    for m in json.load(open(folder / "messages.json"))["messages"]:
        pickled(bytes.fromhex(m["pickle_hex"]))
        for field, mode in (("frame_plain_hex", 0), ("frame_enc_hex", 1)):
            seed("session", bytes([mode]) + bytes.fromhex(m[field]))
            seed("session", bytes([mode | 2]) + bytes.fromhex(m[field]))
    for u in json.load(open(folder / "utility.json"))["utility"]:
        if u.get("reply_pickle_hex"):
            pickled(bytes.fromhex(u["reply_pickle_hex"]))
    for c in json.load(open(folder / "command_types.json"))["commands"]:
        seed("command", bytes.fromhex(c["hex"]))
        seed("pickle", bytes.fromhex(c["hex"])[1:])
    for c in json.load(open(folder / "dcs_commands.json"))["ops"]:
        if c.get("command_hex"):
            seed("command", bytes.fromhex(c["command_hex"]))
    dump = (folder / "node.dump").read_bytes()
    seed("snapshot", dump)
    seed("snapshot", gzip.decompress(dump))
    seed("pickle", gzip.decompress(dump))
    journal = (folder / "node.journal").read_bytes()
    end, = struct.unpack("<I", journal[36:40])
    seed("python_files", journal[:end])
    seed("python_files", (folder / "node.journal.meta").read_bytes())
for name in ("plain-0.3.11", "plain-0.3.17"):
    stream = b""
    for line in open(vectors / "conversation" / (name + ".jsonl")):
        frame = json.loads(line).get("frame_hex")
        if frame and len(stream) < 2000:
            stream += bytes.fromhex(frame)
    seed("session", b"\x00" + stream)
    seed("session", b"\x02" + stream)
