"""The README's table of the cards' figures: `pytest -rP` shows it, as measured here,
and what it promises is held."""

import gzip
import json
import re
from datetime import datetime

import pytest
from guest import on

pytestmark = [pytest.mark.timeout(1800), pytest.mark.on_demand]


def when(line):
    return datetime.fromisoformat(line.split()[0]).timestamp()


@on("x86", "virt", "raspi3b")
def test_start_and_memory(booted, request):
    witness = booted.witness
    for node in booted.nodes:
        node.start()
    booted.await_leader(booted.nodes)
    witness.configure()
    witness.start()
    witness.await_line(" connected")
    cpu_s = witness.process.cpu_s()
    booted.settle()
    lines = witness.output().splitlines()
    at_work = next(line for line in lines if "makes progress" in line)
    first = next(line for line in lines if line.endswith(" connected"))
    uptime, used = re.search(r"([\d.]+) s after the kernel; (\d+) MB", at_work).groups()
    uptime = float(uptime) + when(first) - when(at_work)
    rss = json.loads(witness.page("/status.json"))["status"]["watcher"]["memory-bytes"]
    print(f"{request.node.callspec.params['booted']}: kernel to first Raft message {uptime:.1f} s "
          f"({cpu_s:.1f} s of the emulator's CPU, firmware included), "
          f"{used} MB in use, RSS of the witness {rss / 1e6:.1f} MB")
    assert int(used) < 48 and rss < 4_000_000
