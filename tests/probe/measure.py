"""What probing costs: memory and processor time of a witness in a cluster of two
real nodes, whose store names no server, one, and a hundred.

    python tests/probe/measure.py [SECONDS]

`PG_WITNESS_BIN` is the program; a release build is what one wants to know of."""

import json
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "cluster")]

from harness import Cluster  # noqa: E402
from rig.process import await_that  # noqa: E402

SERVERS = 100
#: What a server says to a startup packet where SCRAM is asked for.
BODY = struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"
REQUEST = b"R" + struct.pack("!i", len(BODY) + 4) + BODY


class Servers:
    """As many servers as there are addresses 127.9.9.x, on one port, that ask for a
    password and hang up when the client does."""

    def __init__(self, count):
        self.asked = 0
        self.port = None
        for last in range(1, count + 1):
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((f"127.9.9.{last}", self.port or 0))
            self.port = listener.getsockname()[1]
            listener.listen(8)
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener):
        while True:
            connection, _ = listener.accept()
            try:
                connection.recv(1000)
                connection.sendall(REQUEST)
                connection.recv(1)
            except OSError:
                pass
            connection.close()
            self.asked += 1

    def url(self, place):
        return f"postgres://127.9.9.{place}:{self.port}/postgres"


def measure(cluster, servers, seconds):
    """KiB of resident memory, and milliseconds of processor time a second."""
    process = cluster.witness.process
    asked, cpu, began = servers.asked, process.cpu_s(), time.monotonic()
    time.sleep(seconds)
    spent = time.monotonic() - began
    return (process.rss_kib(), (process.cpu_s() - cpu) * 1000 / spent, (servers.asked - asked) / spent)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    servers = Servers(SERVERS)
    with tempfile.TemporaryDirectory() as folder, Cluster(folder) as cluster:
        cluster.start()
        cluster.lead(cluster.a)
        time.sleep(10)
        print(f"{'servers':>8} {'RSS KiB':>8} {'CPU ms/s':>9} {'probes/s':>9}")
        for count in (0, 1, SERVERS):
            for place in range(1, count + 1):
                # As Patroni writes them, but without an end.
                value = json.dumps({"conn_url": servers.url(place), "state": "running"})
                cluster.must_write(cluster.a, f"/service/main/members/pg{place:03}", value)
            if count:
                name = f"pg{count:03} at"
                await_that(lambda: name in cluster.witness.output(), 60, cluster.describe)
            time.sleep(12)
            rss, cpu, rate = measure(cluster, servers, seconds)
            print(f"{count:8} {rss:8} {cpu:9.2f} {rate:9.2f}", flush=True)


if __name__ == "__main__":
    main()
