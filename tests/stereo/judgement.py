"""What must hold after every scenario, whatever befell the cluster. Each is waited for,
and nothing is taken from the end state alone where the history can tell more."""

from rig.process import await_that

from . import history

#: Generous: a member that was away may have to be cloned again.
WELL_S = 150


def judge(stereo):
    """Raises AssertionError with the first thing that is wrong. Returns how many
    acknowledged writes are lost, which in asynchronous mode may be some."""
    alive(stereo)
    stereo.await_well(WELL_S)
    writing(stereo)
    streaming(stereo)
    agreeing(stereo)
    equal_stores(stereo)
    one_primary_at_a_time(stereo)
    lost = lost_writes(stereo)
    assert not lost or not stereo.synchronous, \
        f"{len(lost)} acknowledged writes are lost, the first: {lost[0]}"
    alive(stereo)
    sound_logs(stereo)
    return len(lost)


def alive(stereo):
    """No process died that should live; a thread of Patroni's neither."""
    programs = [stereo.witness.program, *(node.patroni for node in stereo.nodes.values())]
    for program in programs:
        assert not program.died, f"{program.name} died: exit status {program.process.exit_status}"
    for application in stereo.applications():
        assert application.process is None or application.process.alive(), f"{application.name} died"
    assert stereo.observer.process.alive(), f"the observer died: {stereo.observer.log.read_text()[-500:]}"


def writing(stereo):
    """The application outside, and that on the primary's machine."""
    stereo.application.await_writes(10)
    stereo.primary().application.await_writes(2)


def streaming(stereo):
    """Every standby receives, and has replayed what the primary has now."""
    def done():
        primary = stereo.well()
        if primary is None:
            return False
        standbys = [node for node in stereo.nodes.values() if node.running and node is not primary]
        told = stereo.query(primary, "SELECT application_name, state FROM pg_stat_replication")
        streams = dict(row.split() for row in told.splitlines())
        if streams != {node.name: "streaming" for node in standbys}:
            return False
        now = stereo.query(primary, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        replayed = (f"SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn >= {now} "
                    "AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')")
        return all(stereo.query(node, replayed) == "t" for node in standbys)

    await_that(lambda: _or_not_yet(done), 60, stereo.describe, every_s=0.5)


def agreeing(stereo):
    """All members name the same members, which are those that there are, and the same
    leader; and what one has committed all have applied."""
    members = [member for member in stereo.members.values() if member.running]
    expected = {member.raft_address for member in stereo.members.values()}

    def done():
        views = {member.name: stereo.member_set(member) for member in members}
        statuses = [stereo.ask(member, "status", limit_s=2) for member in members]
        if not all(isinstance(status, dict) for status in statuses):
            return False
        seen["members"] = views
        seen["leaders"] = {status["self"]: (status["leader"], status["raft_term"]) for status in statuses}
        seen["applied"] = {status["self"]: (status["last_applied"], status["commit_idx"]) for status in statuses}
        # Asked one after the other: the last has applied what the first had committed.
        first = statuses[0]["commit_idx"]
        return (all(view == expected for view in views.values())
                and len(set(seen["leaders"].values())) == 1
                and all(status["last_applied"] >= first for status in statuses))

    seen = {}
    await_that(done, 60, lambda: f"the members to agree on {sorted(expected)}: {seen}", every_s=0.5)


def equal_stores(stereo):
    """Each member's own store, which only a leader shows: so each leads in turn. PySyncObj
    before 0.3.16 cannot be told to lead; then it is those that lead by themselves."""
    names = [name for name, member in stereo.members.items() if member.running]
    if stereo.pysyncobj < "0.3.16":
        names = [None]
    earlier = None
    for name in names:
        def read():
            if name is not None:
                stereo.give_raft_to(name)
            told = stereo.store()
            if told is None or (name and told["leader"] != stereo.members[name].raft_address):
                return None
            return told

        told = await_that(read, 60, stereo.describe)
        if earlier is not None:
            differences = _differences(earlier["store"], told["store"])
            assert not differences, f"the stores of {earlier['leader']} and {told['leader']} differ: {differences}"
        earlier = told
    for key in ("/service/stereo/leader", "/service/stereo/initialize", "/service/stereo/config"):
        assert key in earlier["store"], f"{key} is missing: {sorted(earlier['store'])}"


def _differences(earlier, later):
    """What cannot be explained by writes in between: a write gives a greater index."""
    found = []
    newest = max(entry["index"] for entry in earlier.values())
    for key in sorted({*earlier, *later}):
        old, new = earlier.get(key), later.get(key)
        if old is None:
            wrong = new["index"] <= newest
        elif new is None:
            # Only what can expire or be deleted by Patroni.
            wrong = "expire" not in old and not key.endswith("/failover")
        elif new["index"] == old["index"]:
            wrong = new != old
        else:
            wrong = new["index"] < old["index"]
        if wrong:
            found.append((key, old, new))
    return found


def lost_writes(stereo):
    """Writes that were acknowledged and are not in the primary's table, or not in the
    past that its timeline history tells."""
    primary = stereo.primary()
    # First, for they go on.
    writes = _all_writes(stereo)
    rows = {tuple(row.split()) for row in
            stereo.query(primary, "SELECT client, id, timeline FROM writes").splitlines()}
    present = {(client, int(id_)) for client, id_, _ in rows}
    lost = [write for write in writes if (write.client, write.id) not in present]
    wrong = history.out_of_order((client, int(id_), int(timeline, 16)) for client, id_, timeline in rows)
    assert not wrong, wrong[0]

    timeline = int(stereo.query(primary, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), 16)
    told = ""
    if timeline > 1:
        told = stereo.query(primary, f"SELECT pg_read_file('pg_wal/{timeline:08X}.history')")
    strayed = history.off_the_path(writes, timeline, history.parse_switches(told))
    return sorted({*lost, *strayed}, key=lambda write: write.end)


def _all_writes(stereo):
    return [write for application in stereo.applications() for write in list(application.acknowledged())]


def one_primary_at_a_time(stereo):
    found = history.two_primaries(_all_writes(stereo))
    assert not found, f"{len(found)} times two primaries acknowledged, first: {found[0]}"


def sound_logs(stereo):
    """No secret, no panic, no state that pg-witness takes for damaged by others."""
    logs = [*stereo.folder.rglob("*log"), stereo.observer.notes]
    for log in logs:
        text = log.read_text(errors="replace")
        assert stereo.password not in text, f"{log.relative_to(stereo.folder)} shows the password"
        assert "panicked at" not in text, f"{log.relative_to(stereo.folder)} tells of a panic"
    if stereo.witness.ours:
        wrong = stereo.witness.said("DIVERGED|a member voted twice|nothing of it is accepted")
        assert not wrong, f"the witness says: {wrong[0].text}"


def _or_not_yet(condition):
    """A node that cannot be asked is no reason to give up."""
    try:
        return condition()
    except AssertionError:
        return False
