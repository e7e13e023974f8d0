"""Reads what pg-witness writes with the real pysyncobj.

Usage: cargo run --example emit_wire | python decode_ours.py

Needs pysyncobj (0.3.11 to 0.3.17) and cryptography. Frames go through
pysyncobj's own TcpConnection: its framing, Fernet, timestamp check, zlib,
unpickler and random keys. Each line must decode to its recorded meaning, equal
in value and in type.
"""
import collections
import gzip
import io
import json
import sys

import pysyncobj.pickle as pickle
from pysyncobj.encryptor import getEncryptor
from pysyncobj.node import TCPNode
from pysyncobj.tcp_connection import CONNECTION_STATE, TcpConnection
from pysyncobj.version import VERSION

OURS, THEIRS = b"\x11" * 32, b"\x22" * 32


class Poller(object):
    def subscribe(self, *args):
        pass

    def unsubscribe(self, *args):
        pass


def connection(recv_key=None, encrypted=False):
    """A connection that reads from memory."""
    conn = TcpConnection(Poller())
    conn._TcpConnection__state = CONNECTION_STATE.CONNECTED
    if encrypted:
        conn.encryptor = ENCRYPTOR
    conn.recvRandKey = recv_key
    return conn


def read(conn, frame):
    """The message that pysyncobj makes of a frame."""
    conn._TcpConnection__readBuffer += frame
    message = conn._TcpConnection__processParseMessage()
    assert conn.state == CONNECTION_STATE.CONNECTED, "closed by pysyncobj"
    assert not conn._TcpConnection__readBuffer, "bytes left over"
    return message


def same(a, b):
    """Equal in value and type, at every depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return repr(a) == repr(b) if isinstance(a, float) else a == b


ENCRYPTOR = getEncryptor("secret")
PLAIN = connection()
SEALED = connection(THEIRS, encrypted=True)


def decode(kind, data):
    if kind == "command":
        assert data[:1] in (b"\x00", b"\x02"), data
        return pickle.loads(data[1:])
    if kind == "snapshot":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as f:
            state = pickle.load(f)
        # What SyncObj.__loadDumpFile does with it.
        assert state[1][1] == state[2][1] + 1
        for node in state[3]:
            assert (node.host, node.port) == (node.id.rsplit(":")[0], int(node.id.rsplit(":")[1]))
        return state
    if kind == "first":
        return read(connection(encrypted=True), data)
    if kind == "second":
        return read(connection(OURS, encrypted=True), data)
    return read({"plain": PLAIN, "sealed": SEALED}[kind], data)


def main():
    count = collections.Counter()
    for line in sys.stdin:
        case = json.loads(line)
        means = eval(case["means"], {"TCPNode": TCPNode})  # Written by our own test.
        got = decode(case["kind"], bytes.fromhex(case["hex"]))
        assert same(got, means), "%s: %r is not %s" % (case["kind"], got, case["means"][:500])
        count[case["kind"]] += 1
    assert count["plain"] > 100 and count["sealed"] > 100 and count["command"] > 50, count
    print("pysyncobj %s reads all of it: %s" % (VERSION, dict(count)))


if __name__ == "__main__":
    main()
