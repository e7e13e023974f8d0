"""The reason to exist: the primary's machine is gone, and the application writes again."""

import pytest

from stereo import fail_over


@pytest.mark.parametrize("raft_leader", ["node", "witness"])
def test_fails_over(stereo, raft_leader):
    told = fail_over(stereo, raft_leader)
    print(told.told())
    assert told.lost == []
    # The key lives `ttl`; then a loop, the race, the promotion and the libpq client.
    assert told.outage_s < stereo.timing["ttl"] + 3 * stereo.timing["loop_wait"] + 5

    # The machine comes back, rewinds, and is a synchronous standby: ready for the next.
    returned = stereo.nodes[told.victim]
    returned.start()
    assert stereo.await_in_sync() is stereo.other(returned)
    assert stereo.lost_writes() == []


def test_the_witness_is_no_single_point(stereo):
    """Its machine fails: the application does not notice; it comes back."""
    primary = stereo.await_in_sync()
    stereo.transfer(primary.name)
    began = stereo.application.acknowledged()[-1][0]
    stereo.witness.crash()
    stereo.patronictl("edit-config", "--force", "-s", "maximum_lag_on_failover=1048577")
    stereo.witness.start()
    stereo.transfer("witness")
    assert stereo.application.longest_silence_s(began) < 2
    assert stereo.primary() is primary
