"""The plug is pulled under writes: what the card acknowledged it still has, and it
never votes twice in a term. And these tests notice when it has not."""

import os
import random
import re
import threading
import time

import pytest
from disk import Disk
from guest import BOOT_LIMIT_S, BUGGY, on
from rig.process import await_that

CUTS = int(os.environ.get("PG_WITNESS_POWER_CUTS", "3"))

#: From the disk's loss of power to that of the machine, emulated.
MOMENT_MAX_S = 5

#: By then a card that does not force its writes has lost one.
CUTS_FOR_A_LOSS = 10


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
        """The node is dead: what was under way is not acknowledged."""
        self._thread.join(90)
        assert not self._thread.is_alive()


class Ordeal:
    """A cluster whose card loses its power, again and again. `words` go to the kernel's
    command line."""

    def __init__(self, cluster, dice, words=""):
        self.cluster, self.dice, self.words = cluster, dice, words
        cluster.witness.configure()
        self.disk = Disk(cluster.witness.image, cluster.folder / "nbd")
        cluster.witness.drive = self.disk.url

    def __enter__(self):
        self.cluster.witness.start(self.words)
        await_that(self.cluster.witness.status, BOOT_LIMIT_S, "the witness to answer")
        for node in self.cluster.nodes:
            node.start()
        self.cluster.settle()
        return self

    def __exit__(self, *_):
        self.disk.close()

    def cut(self, number):
        """One more. What was acknowledged and is lost: {key: (acknowledged, there)}."""
        cluster, witness = self.cluster, self.cluster.witness
        lives, other = self.dice.sample(cluster.nodes, 2)
        other.kill()
        await_that(lambda: cluster.leader([lives, witness]), BOOT_LIMIT_S, cluster.describe)
        writer = Writer(lives, number)
        await_that(lambda: len(writer.acknowledged) > 5, BOOT_LIMIT_S, cluster.describe)
        # The first cut is the cruellest: at the flush, a long moment, and nothing is left
        # of what was not forced.
        at_flush = number == 0 or self.dice.random() < 0.5
        moment, keep = (self.dice.random(), self.dice.random()) if number else (1, 0)
        self.disk.arm(self.dice.randrange(1, 150), at_flush)
        assert self.disk.dark.wait(BOOT_LIMIT_S), "the card is not written to"
        # The disk is the first to go; the rest has a moment more, in which it may tell the
        # node that it has what it has not.
        time.sleep(moment * MOMENT_MAX_S)

        # With the node goes the only other copy: the next leader has it of the card.
        witness.kill()
        lives.kill()
        self.disk.cut(self.dice, keep)
        writer.end()
        witness.start(self.words)
        other.start()
        cluster.settle([other, witness])
        held = {key: int(entry["value"]) for key, entry in other.dump().items()}
        lost = {key: (value, held.get(key)) for key, value in writer.acknowledged.items()
                if held.get(key, -1) < value}
        if not lost:
            lives.start()
            cluster.settle()
        return lost

    def votes(self):
        """Whom it gave its vote, by term, as the console shows it."""
        votes = {}
        for candidate, term in re.findall(r"voted for (\S+) in term (\d+)", self.cluster.witness.output()):
            votes.setdefault(term, set()).add(candidate)
        return votes


@pytest.fixture
def dice(seed):
    seed = seed if seed is not None else int(time.time())
    print(f"--seed {seed}")
    return random.Random(seed)


@pytest.mark.timeout(600 + 300 * CUTS)
@on("virt")
def test_power_cuts_lose_nothing_and_no_vote_is_given_twice(booted, dice):
    """S1, H7"""
    with Ordeal(booted, dice) as ordeal:
        for number in range(CUTS):
            assert ordeal.cut(number) == {}, f"cut {number}"
        assert all(len(given) == 1 for given in ordeal.votes().values()), ordeal.votes()
        assert ordeal.disk.lost > 0, "no cut met a write that was not flushed: nothing was tried"


@pytest.mark.timeout(600 + 300 * CUTS_FOR_A_LOSS)
@on("virt")
def test_a_card_that_acknowledges_before_the_disk_has_it_is_found_out(booted, dice, card):
    """The test above, with a program that must fail it."""
    booted.witness.install("virt", card("pi", BUGGY))
    with Ordeal(booted, dice, "PG_WITNESS_BUG=acknowledge-before-fsync") as ordeal:
        assert any(ordeal.cut(number) for number in range(CUTS_FOR_A_LOSS))
