"""Runs scenarios, each in a process and in namespaces of its own, and makes a table of
what came out. With both witnesses a scenario runs with one and then with the other,
so that both find the same machine. See `tests/stereo/suite --help`."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rig.network import sweep  # noqa: E402
from stereo.scenario import Outcome, all_scenarios, run  # noqa: E402
from stereo.table import table  # noqa: E402

#: A scenario that takes longer hangs; the longest take a third of that.
LIMIT_S = 600


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["TZ"] = "UTC"
    scenarios = all_scenarios()
    if given.one:
        print(json.dumps(asdict(run(scenarios[given.one], given.witness))), flush=True)
        return 0
    chosen = [variant for variant in scenarios.values() if is_chosen(variant, given)]
    if given.tabulate:
        lines = Path(given.tabulate).read_text().splitlines()
        print(table([Outcome(**json.loads(line)) for line in lines], scenarios))
        return 0
    if given.list:
        for variant in chosen:
            print(variant.name)
        return 0
    sweep()
    kinds = ["rust", "python"] if given.witness == "both" else [given.witness]
    runs = [(variant, kind) for variant in chosen for _ in range(given.rounds) for kind in kinds
            if kind == "rust" or not variant.only_ours]
    began = time.monotonic()
    pool = ThreadPoolExecutor(given.jobs)
    try:
        outcomes = list(pool.map(lambda one: run_apart(*one, given), runs))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_all()
        raise
    finally:
        sweep()
    seconds = time.monotonic() - began
    print(f"\n{time.strftime('%Y-%m-%d')}, {platform.freedesktop_os_release()['PRETTY_NAME']}, "
          f"{os.cpu_count()} cores, {given.jobs} at a time, {seconds / 60:.0f} minutes\n")
    print(table(outcomes, scenarios))
    failed = [outcome for outcome in outcomes if is_failure(outcome, scenarios)]
    for outcome in failed:
        print(f"FAILED {outcome.scenario} ({outcome.witness}): {outcome.verdict}\n  all logs: {outcome.remains}")
    counts = f"{len(outcomes) - len(failed)} passed" + (f", {len(failed)} failed" if failed else "")
    print(f"{counts} in {seconds:.1f}s")
    return 1 if failed else 0


def arguments():
    parser = argparse.ArgumentParser(prog="tests/stereo/suite", description=__doc__)
    parser.add_argument("--witness", choices=["rust", "python", "both"], default="rust",
                        help="pg-witness, Patroni's patroni_raft_controller, or one after the other "
                             "(default: %(default)s)")
    parser.add_argument("--ci", action="store_true", help="only the selection that CI runs")
    parser.add_argument("-k", metavar="WORD", action="append", default=[],
                        help="only scenarios whose name contains it; several: any of them")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--jobs", type=int, default=2,
                        help="how many at a time (default: %(default)s; outages suffer from more than "
                             "one for each core)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each (default: %(default)s)")
    parser.add_argument("--outcomes", metavar="FILE", help="append each outcome there, as a line of JSON")
    parser.add_argument("--tabulate", metavar="FILE", help="print the table of what --outcomes kept; run nothing")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    return parser.parse_args()


def is_chosen(variant, given):
    return (variant.ci or not given.ci) and (not given.k or any(word in variant.name for word in given.k))


def is_failure(outcome, scenarios):
    """What the reference is known to fail is told in the table and fails nothing."""
    known = outcome.witness == "python" and scenarios[outcome.scenario].reference
    return outcome.verdict != "passed" and not known


#: All that were started, by number.
children = {}


def end_all():
    """Each clears away its own cluster."""
    for child in children.values():
        child.terminate()
    for child in children.values():
        child.wait(60)


def run_apart(variant, kind, given):
    """One run in a process of its own, which takes all with it when it ends."""
    child = children[len(children)] = subprocess.Popen(
        [sys.executable, __file__, "--one", variant.name, "--witness", kind],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True)
    try:
        out, errors = child.communicate(timeout=LIMIT_S)
        outcome = Outcome(**json.loads(out.splitlines()[-1]))
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        child.kill()
        _, errors = child.communicate()
        outcome = Outcome(variant.name, kind, f"failed: {' '.join(errors.split()[-20:]) or 'it hung'}")
    told = [f"{outcome.seconds:.0f} s", f"outage {outcome.outage_s} s", f"promotion {outcome.promotion_s} s",
            f"Raft {outcome.raft}"]
    print(f"{time.strftime('%H:%M:%S')} {kind:6} {variant.name}: {outcome.verdict} ({', '.join(told)})"
          + (f"\n    all logs: {outcome.remains}" if outcome.remains else ""), flush=True)
    if given.outcomes:
        with open(given.outcomes, "a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
