"""The operator's tool, against a cluster led by a node or by the witness: patronictl
then reads from it and writes through it."""

from rig.process import await_that

from ..scenario import scenario

RAFT = ("primary", "witness")


@scenario(raft=RAFT, ci=("patronictl_reads_and_configures[witness leads Raft]",))
def patronictl_reads_and_configures(s):
    primary = s.primary()
    listed = s.patronictl("list")
    rows = {row.split("|")[1].strip(): row for row in listed.splitlines() if row.startswith("| ")}
    assert "Leader" in rows[primary.name], listed
    assert "Sync Standby" in rows[s.other(primary).name], listed
    s.patronictl("edit-config", "--force", "-s", "maximum_lag_on_failover=2000001")
    assert "maximum_lag_on_failover: 2000001" in s.patronictl("show-config")
    s.patronictl("pause", "--wait")
    assert "Maintenance mode: on" in s.patronictl("list")
    s.patronictl("resume", "--wait")
    assert "Maintenance mode" not in s.patronictl("list")
    s.await_unnoticed(primary)


@scenario(raft=RAFT, verb=("switchover", "failover"), ci=("patronictl_changes_the_primary[switchover, witness leads Raft]",))
def patronictl_changes_the_primary(s, verb):
    before, candidate = s.primary(), s.standby()
    named = ["--leader", before.name] if verb == "switchover" else []
    s.patronictl(verb, *named, "--candidate", candidate.name, "--force")
    await_that(lambda: s.primary() is candidate, 60, s.describe)
    assert s.await_well() is candidate


@scenario(raft=RAFT)
def primary_lost_while_paused(s):
    # Nobody fails over in maintenance mode; after it, everybody.
    old = s.primary()
    s.patronictl("pause", "--wait")
    old.crash()
    s.endure(s.timing["ttl"] + 2 * s.timing["loop_wait"])
    assert s.roles()[s.other(old).name] == "standby", s.describe()
    s.patronictl("resume")
    s.await_failover(old, limit_s=3 * s.timing["ttl"])
    old.start()
