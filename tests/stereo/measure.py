"""Measures outages for RESULTS.md: failovers of a real cluster, with pg-witness and with
Patroni's own controller, at two timings, and with either leader of the Raft group.

As a program: measure.py [--rounds N] [--witness KIND,...] [--timings TIMING,...]. Prints a table."""

import argparse
import os
import platform
import signal
import statistics
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from stereo import DEFAULTS, FAST, Stereo, fail_over  # noqa: E402

TIMINGS = {"20/2/5": FAST, "30/10/10": DEFAULTS}
LEADERS = ("node", "witness")


def measure(kind, timing, rounds, note):
    """Outages in seconds, by the leader of the Raft group when the power was cut."""
    outages = {leader: [] for leader in LEADERS}
    with Stereo(kind, timing=TIMINGS[timing]) as stereo:
        stereo.start()
        for number in range(rounds * len(LEADERS)):
            leader = LEADERS[number % len(LEADERS)]
            told = fail_over(stereo, leader)
            note(f"{kind}, {timing}, {leader} led: {told.outage_s:.1f} s, {len(told.lost)} lost\n{told.told()}")
            assert told.lost == [], told.lost
            outages[leader].append(told.outage_s)
            stereo.nodes[told.victim].start()
            stereo.await_in_sync(120)
    return outages


def row(kind, timing, outages):
    cells = []
    for leader in LEADERS:
        seen = outages[leader]
        cells.append(f"{statistics.median(seen):.1f} ({min(seen):.1f} to {max(seen):.1f})")
    return f"| {timing} | {kind} | {cells[0]} | {cells[1]} | {len(outages[LEADERS[0]])} |"


def main():
    parser = argparse.ArgumentParser(prog="measure.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="failovers of each kind (default: %(default)s)")
    parser.add_argument("--witness", default="rust,python", help="which (default: %(default)s)")
    parser.add_argument("--timings", default=",".join(TIMINGS), help="which (default: %(default)s)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.freedesktop_os_release()['PRETTY_NAME']}")
    rows = []
    for timing in given.timings.split(","):
        for kind in given.witness.split(","):
            outages = measure(kind, timing, given.rounds, lambda text: print(text, flush=True))
            rows.append(row(kind, timing, outages))
            print(rows[-1], flush=True)
    print("\n| ttl/loop_wait/retry_timeout | witness | the dead node led Raft | the witness led Raft | failovers each |")
    print("|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    sys.exit(main())
