"""The failover demonstration (`tests/demo`)."""

import argparse
import signal
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from stereo import DEFAULTS, FAST, Stereo, fail_over  # noqa: E402
from stereo.cluster import connection_string  # noqa: E402


def main():
    parser = argparse.ArgumentParser(
        prog="tests/demo", description="Cuts the power of a PostgreSQL primary and shows what follows.")
    parser.add_argument("--witness", choices=["rust", "python"], default="rust",
                        help="pg-witness, or Patroni's patroni_raft_controller (default: %(default)s)")
    parser.add_argument("--kill-while", choices=["witness", "node"], default="node",
                        help="who leads the Raft group then: the witness, or the node whose power is cut")
    parser.add_argument("--patroni-defaults", action="store_true",
                        help="ttl 30, loop_wait 10, retry_timeout 10, in place of 20, 2 and 5")
    parser.add_argument("--keep", action="store_true",
                        help="leave the cluster up afterwards, to play with, until Ctrl-C")
    given = parser.parse_args()
    # The end of this process, however it comes, is the end of the cluster.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    timing = DEFAULTS if given.patroni_defaults else FAST
    print(f"Two Patroni nodes and the witness ({given.witness}); {timing} ...", flush=True)
    try:
        with Stereo(given.witness, timing=timing) as stereo:
            stereo.start()
            print(f"{stereo.primary().name} is primary, {stereo.standby().name} its synchronous standby, "
                  "an application writes.", flush=True)
            told = fail_over(stereo, given.kill_while)
            print(f"\n{told.told()}\n")
            acknowledged = len(stereo.application.acknowledged())
            print(f"{acknowledged} writes acknowledged so far, {len(told.lost)} of them lost.", flush=True)
            if given.keep:
                keep(stereo)
            return 1 if told.lost else 0
    except KeyboardInterrupt:
        print("\nInterrupted; all is cleaned up.")
        return 130


def keep(stereo):
    """Until Ctrl-C: how to reach what runs."""
    print(f"""
The cluster stays up until Ctrl-C. From another terminal:

  enter a machine:  {' '.join(stereo.outside.enter)} bash      (the application's; also -a, -b, -witness)
  patronictl:       {' '.join(stereo.outside.enter)} {sys.prefix}/bin/patronictl -c {stereo.patronictl_config} list
  psql:             {' '.join(stereo.outside.enter)} psql '{connection_string(stereo)}'
  logs:             {stereo.folder}/{{a,b}}/patroni.log, {stereo.witness.log}
""", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    sys.exit(main())
