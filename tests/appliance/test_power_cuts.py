"""The plug is pulled under writes: what the card acknowledged it still has, and it
never votes twice in a term."""

import os
import random
import re
import threading
import time

import pytest
from disk import Disk
from guest import BOOT_LIMIT_S
from rig.process import await_that

CUTS = int(os.environ.get("PG_WITNESS_POWER_CUTS", "5"))

pytestmark = [pytest.mark.timeout(300 + 300 * CUTS), pytest.mark.on_demand]


class Writer:
    """Writes to a node until it dies, and keeps what was acknowledged."""

    def __init__(self, node, round_number):
        self.acknowledged = {}
        self._node = node.another_line()
        self._round = round_number
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self):
        try:
            for number in range(1_000_000):
                key, value = f"/r{self._round}-{number % 50}", str(number)
                if self._node.ask("set", key=key, value=value, limit_s=60) is not True:
                    return
                self.acknowledged[key] = number
        except OSError:
            pass

    def end(self):
        self._thread.join(90)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("booted", ["virt"], indirect=True)
def test_what_was_acknowledged_survives_every_power_cut(booted, tmp_path, seed):
    seed = seed if seed is not None else int(time.time())
    print(f"--seed {seed}")
    dice = random.Random(seed)
    witness = booted.witness
    witness.configure()
    disk = Disk(witness.image, tmp_path / "nbd")
    witness.drive = disk.url
    witness.start()
    await_that(witness.status, BOOT_LIMIT_S, "the witness to answer")
    for node in booted.nodes:
        node.start()
    await_that(booted.settled, BOOT_LIMIT_S, "all to agree")
    written = 0
    for number in range(CUTS):
        lives, other = dice.sample(booted.nodes, 2)
        other.kill()
        await_that(lambda: booted.leader([lives, witness]), BOOT_LIMIT_S, "a leader of two")
        writer = Writer(lives, number)
        await_that(lambda: len(writer.acknowledged) > 5, BOOT_LIMIT_S, "writes")
        disk.arm(dice.randrange(1, 150))
        assert disk.dark.wait(BOOT_LIMIT_S), "the card is not written to"

        # With the node goes the only other copy: the next leader has it of the card.
        witness.kill()
        lives.kill()
        disk.cut(dice)
        writer.end()
        witness.start()
        other.start()
        await_that(lambda: booted.leader([other, witness]), BOOT_LIMIT_S, "a leader after the cut")
        await_that(lambda: booted.settled([other, witness]), BOOT_LIMIT_S, "the two to agree")
        held = {key: int(entry["value"]) for key, entry in other.dump().items()}
        for key, value in writer.acknowledged.items():
            assert held.get(key, -1) >= value, (number, key, value, held.get(key), seed)
        written += len(writer.acknowledged)
        lives.start()
        await_that(booted.settled, BOOT_LIMIT_S, "all to agree again")

    votes = {}
    for candidate, term in re.findall(r"voted for (\S+) in term (\d+)", witness.output()):
        votes.setdefault(term, set()).add(candidate)
    assert all(len(given) == 1 for given in votes.values()), votes
    assert disk.lost > 0, "no cut met a write that was not flushed: nothing was tried"
    disk.close()
