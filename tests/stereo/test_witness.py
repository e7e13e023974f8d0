"""What befalls a witness in its life: it replaces Python's and is replaced by it, its
clock is wrong, its state is lost."""

import hashlib
import subprocess

import pytest
from rig import paths
from rig.process import await_that

from stereo import fail_over
from stereo.witness_log import end, said

#: A witness without a vote says so after half a minute.
SAID_LIMIT_S = 60


def contents(folder):
    """File by file, what a folder holds."""
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*")) if file.is_file()}


def await_following(stereo):
    """The witness has a leader and all that this leader has committed."""
    def follows():
        status = stereo.ask(stereo.witness, "status")
        leader = stereo.raft_leader()
        return status and leader and status["leader"] == stereo.members[leader].raft_address

    await_that(follows, 60, stereo.describe)


@pytest.mark.ours
def test_swapped_for_python_and_back(stereo):
    """Same file, same address, same folder, under writes; neither touches the other's."""
    primary = stereo.await_in_sync()
    stereo.transfer(primary.name)
    witness = stereo.witness
    began = stereo.application.acknowledged()[-1][0]
    before = contents(witness.data)

    def replace_by(kind):
        witness.stop()
        left = contents(witness.data)
        witness.kind = kind
        witness.start()
        await_following(stereo)
        # It takes part: what is committed now is acknowledged by it.
        stereo.patronictl("edit-config", "--force", "-s", f"maximum_lag_on_failover={len(left) + 10000}")
        return left

    ours = replace_by("python")
    assert set(ours) == set(before)
    pythons = replace_by("rust")
    assert {name: pythons[name] for name in ours} == ours, "Python changed what is ours"
    theirs = set(pythons) - set(ours)
    assert theirs, "Python has written nothing"

    # And it is whole: it leads, and hands back.
    stereo.transfer("witness")
    stereo.transfer(primary.name)
    now = contents(witness.data)
    assert {name: now[name] for name in theirs} == {name: pythons[name] for name in theirs}
    assert stereo.application.longest_silence_s(began) < 2
    assert stereo.primary() is primary
    assert stereo.lost_writes() == []


@pytest.mark.ours
@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_its_wall_clock_decides_nothing(stereo, ahead_s):
    # S8: the witness leads when the primary dies, so it is its clock that expires the key.
    stereo.await_in_sync()
    stereo.witness.stop()
    stereo.witness.clock_ahead_s = ahead_s
    began = end(stereo.witness.log)
    try:
        stereo.witness.start()
        await_following(stereo)
        told = fail_over(stereo, "witness")
        listening = said(stereo.witness.log, "^listening on", began)[0]
        assert abs(listening.time - ahead_s - told.cut) < 600, "the clock was not off"
        print(told.told())
        assert told.lost == []
        expired = next(time_ for time_, _, what in told.timeline if what.startswith("key expired"))
        ttl, loop_wait = stereo.timing["ttl"], stereo.timing["loop_wait"]
        # Refreshed at most a loop before the cut; never sooner than it may be.
        assert ttl - loop_wait - 1 < expired - told.cut < ttl + 2
    finally:
        stereo.witness.stop()
        stereo.witness.clock_ahead_s = 0
        stereo.witness.start()
    returned = stereo.nodes[told.victim]
    returned.start()
    assert stereo.await_in_sync() is stereo.other(returned)


@pytest.mark.ours
def test_lost_state_while_a_node_is_down(stereo):
    # S7, and the README's steps, word by word.
    primary = stereo.await_in_sync()
    standby = stereo.other(primary)
    stereo.transfer(primary.name)
    witness = stereo.witness
    heard = end(witness.log)

    standby.crash()
    witness.stop()
    witness.data.rename(witness.folder / "the-lost-card")
    witness.start()
    # It cannot know whether the two that are gone had committed something together.
    waits = r"has no vote yet: .* run: pg-witness adopt --accept-loss stereo$"
    await_that(lambda: said(witness.log, waits, heard), SAID_LIMIT_S, stereo.describe)
    assert not said(witness.log, r"^voted for |is a voter now|this witness leads", heard)
    await_that(lambda: stereo.primary() is None, 2 * stereo.timing["ttl"], stereo.describe)

    witness.stop()
    adopted = subprocess.run(
        [paths.pg_witness(), "adopt", "--accept-loss", "stereo", "--config", witness.config],
        capture_output=True, text=True, timeout=30)
    assert adopted.returncode == 0, adopted.stderr
    assert "adopted a log that ends with entry" in adopted.stdout
    since = stereo.application.acknowledged()[-1][0]
    witness.start()
    await_that(lambda: stereo.primary() is primary and stereo.application.first_after(since),
               90, stereo.describe)

    standby.start()
    assert stereo.await_in_sync() is primary
    assert stereo.lost_writes() == []
