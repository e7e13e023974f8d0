"""Runs the stages of the test suite and adds up what they counted. Called by
`tests/run`, which has made sure that everything is there.

Every stage has a time limit and a process group of its own, ended with it. What waits
most of its time (clusters, for their elections) has all the cores when it wants them;
beside it run builds, with what is left of them. Emulated boards come last, by
themselves: they keep the cores busy and have timeouts of their own."""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rig.network import sweep

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
VENVS = Path(os.environ.get("PG_WITNESS_VENVS", "/opt/pg-witness-tests/venvs"))
PYTHON = str(VENVS / "patroni-4.1.5/bin/python")
PYTEST = [PYTHON, "-m", "pytest", "-q", "--no-header", "--tb=short"]

# `test result: ok. 12 passed; 0 failed; 1 ignored; ...`, once per test binary.
CARGO_COUNTS = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
# `3 failed, 10 passed, 2 skipped, 1 error in 12.34s (0:01:02)`
PYTEST_END = re.compile(r"^=* ?((?:\d+ \w+(?:, )?)+) in [\d.]+s")
PYTEST_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)")

#: Held by the stage that shows a line.
SPEAKING = threading.Lock()
#: No further stage begins.
ENDED = threading.Event()
#: When a stage runs.
BESIDE, LAST = "beside", "last"


@dataclass
class Stage:
    """One command; `limit_s` seconds after its start it is killed and has failed."""

    name: str
    argv: list
    limit_s: int
    #: When it runs: in its turn, or with a lower priority BESIDE those, or LAST of all.
    when: str = "in turn"
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    verdict: str = "not run"
    child: subprocess.Popen = None

    def run(self):
        if ENDED.is_set():
            return
        argv = ["nice", "-n", "10", *self.argv] if self.when == BESIDE else self.argv
        self.tell(f"== {' '.join(map(str, self.argv))}")
        began = time.monotonic()
        self.child = child = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )
        late = threading.Event()

        def end():
            late.set()
            self.end()

        timer = threading.Timer(self.limit_s, end)
        timer.start()
        try:
            for line in child.stdout:
                self.tell(line.rstrip("\n"))
                self.count(line)
            status = child.wait()
        finally:
            timer.cancel()
            self.end()
            self.child = None
        self.seconds = time.monotonic() - began
        if late.is_set():
            self.verdict = f"over its limit of {self.limit_s} s"
        elif status != 0 or self.failed:
            self.verdict = f"failed (exit status {status})"
        elif self.passed == 0:
            self.verdict = "ran no test"
        else:
            self.verdict = "passed"
        # A stage that failed without a failed test (it did not compile, it hung) is one failure.
        if self.verdict != "passed" and self.failed == 0:
            self.failed = 1
        self.tell(f"== {self.verdict} after {self.seconds:.0f} s")

    def end(self):
        """Ends what is left of its process group."""
        if self.child is not None:
            try:
                os.killpg(self.child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def tell(self, line):
        """Shows a line of it, with its name: two stages may speak at once."""
        with SPEAKING:
            print(f"{self.name:9} | {line}", flush=True)

    def count(self, line):
        cargo = CARGO_COUNTS.match(line)
        if cargo:
            passed, failed, ignored = map(int, cargo.groups())
            self.add(passed, failed, ignored)
        end = PYTEST_END.match(line)
        if end:
            counts = {kind.rstrip("s"): int(n) for n, kind in PYTEST_COUNT.findall(end.group(1))}
            self.add(counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0),
                     counts.get("skipped", 0))

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped


def stages(options):
    """The stages for the chosen size, in order: cheapest verdict first. Each takes as many at
    a time as two cores bear: a case of `cluster` computes a fifth of its time, one of
    `stereo` a quarter."""
    cluster = [*PYTEST, "-n", "6", "--maxschedchunk", "1", "--witness", options.witness, "tests/cluster", "tests/stereo"]
    stereo = [PYTHON, "tests/stereo/suite.py", "--witness", options.witness]
    # The page is looked at through a browser, which only this stage needs.
    eyes = ["bash", "-c", 'tests/setup eyes && exec "$@"', "bash", *PYTEST, "tests/eyes"]
    # Whole members wait for their timeouts: many more of them than there are cores.
    rust = ["env", "RUST_TEST_THREADS=10", "cargo", "test", "--locked", "--workspace", "--quiet"]
    seen = [Stage("eyes", eyes, 1500)] if options.witness == "rust" else []
    build = Stage("rust", rust, 1800)
    bugs = Stage("bugs", ["tests/bugs"], 900)
    probe = [*PYTEST, "-n", "4", "tests/probe"]
    image = [*PYTEST, "tests/image"]
    # A board in qemu keeps one core busy. Its card is made before, with the images.
    cards = "tests/appliance/test_images.py"
    appliance = [*PYTEST, "-n", "2", "--dist", "worksteal", "tests/appliance"]
    if options.images:
        os.environ.setdefault("PG_WITNESS_POWER_CUTS", "20")
        return [Stage("image", image, 3 * 3600), Stage("appliance", appliance, 2 * 3600)]
    if options.quick:
        return [build, Stage("probe", [*probe, "--size", "quick"], 600),
                Stage("cluster", [*cluster, "--size", "quick"], 900)]
    if options.long:
        return [build, bugs, Stage("probe", probe, 1200),
                Stage("cluster", [*cluster, "--size", "long"], 3 * 3600),
                Stage("stereo", stereo, 4 * 3600), *seen]
    return [build, bugs, Stage("probe", probe, 1200), Stage("cluster", cluster, 2400),
            Stage("stereo", [*stereo, "--ci", "--jobs", "5"], 1500), *seen,
            Stage("image", [*image, cards, "-m", "not on_demand"], 3600, BESIDE),
            Stage("appliance", [*appliance, f"--ignore={cards}", "-m", "not on_demand"], 2400, LAST)]


def in_order(lane):
    for stage in lane:
        stage.run()
        # What outlives its parent (PostgreSQL does) ends with its network.
        sweep()


def main():
    parser = argparse.ArgumentParser(prog="tests/run", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true",
                      help="Rust, and clusters of one Patroni release: some minutes")
    size.add_argument("--long", action="store_true",
                      help="all releases with and without password, hours of faults")
    size.add_argument("--images", action="store_true",
                      help="every program, the container, the packages and their unit, the "
                           "cards with twenty power cuts, and nothing else: two hours")
    parser.add_argument("--witness", choices=["rust", "python"], default="rust",
                        help="who is the third member: pg-witness, or patroni_raft_controller "
                             "to check the tests themselves (default: %(default)s)")
    options = parser.parse_args()
    if options.witness == "rust" and not options.images and "PG_WITNESS_BIN" not in os.environ:
        # The cluster tests run the program as the Rust tests built it.
        subprocess.run(["cargo", "build", "--locked", "--quiet"], cwd=ROOT, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        os.environ["PG_WITNESS_BIN"] = str(target / "debug/pg-witness")

    done = stages(options)
    last = [stage for stage in done if stage.when == LAST]
    beside = [stage for stage in done if stage.when == BESIDE]
    in_turn = [stage for stage in done if stage not in last + beside]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lanes = ThreadPoolExecutor(2)
    cards = tempfile.TemporaryDirectory(prefix="cards-")
    if beside:
        os.environ.setdefault("PG_WITNESS_CARDS", cards.name)
    try:
        list(lanes.map(in_order, (in_turn, beside)))
        in_order(last)
    finally:
        cards.cleanup()
        ENDED.set()
        for stage in done:
            stage.end()
        lanes.shutdown()

    print(f"\n{'stage':10} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}  verdict")
    for stage in done:
        print(f"{stage.name:10} {stage.passed:7} {stage.failed:7} {stage.skipped:8} "
              f"{stage.seconds:8.0f}  {stage.verdict}")
    passed = sum(stage.passed for stage in done)
    failed = sum(stage.failed for stage in done)
    skipped = sum(stage.skipped for stage in done)
    print(f"\n{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or any(stage.verdict != "passed" for stage in done) else 0


if __name__ == "__main__":
    sys.exit(main())
