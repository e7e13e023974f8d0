"""The operator's tool against a cluster with our witness, each command also while the
witness leads the Raft group: patronictl then reads from it and writes through it."""

import pytest
from rig.process import await_that


@pytest.fixture(params=["node", "witness"])
def led(request, stereo):
    """The cluster with the Raft leader that the test is for."""
    primary = stereo.await_in_sync()
    stereo.transfer("witness" if request.param == "witness" else primary.name)
    return stereo


def test_list(led):
    listed = led.patronictl("list")
    primary = led.primary()
    rows = {row.split("|")[1].strip(): row for row in listed.splitlines() if row.startswith("| ")}
    assert "Leader" in rows[primary.name], listed
    assert "Sync Standby" in rows[led.other(primary).name], listed


def test_switchover(led):
    before = led.primary()
    candidate = led.other(before)
    led.patronictl("switchover", "--leader", before.name, "--candidate", candidate.name, "--force")
    await_that(lambda: led.primary() is candidate, 60, led.describe)
    assert led.await_in_sync() is candidate
    assert led.lost_writes() == []


def test_pause_and_resume(led):
    led.patronictl("pause", "--wait")
    assert "Maintenance mode: on" in led.patronictl("list")
    led.patronictl("resume", "--wait")
    assert "Maintenance mode" not in led.patronictl("list")


def test_edit_config(led):
    value = 2000000 + int(led.raft_leader() == "witness")
    led.patronictl("edit-config", "--force", "-s", f"maximum_lag_on_failover={value}")
    assert f"maximum_lag_on_failover: {value}" in led.patronictl("show-config")
