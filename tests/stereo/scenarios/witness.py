"""What befalls a witness in its life. Alone, it is noticed by nobody."""

import hashlib

from rig.process import await_that

from ..scenario import LEADING_WITNESS_GOES, scenario

#: How it goes, and how it comes back.
WAYS = {
    "stopped": (lambda w: w.stop(), lambda w: w.start()),
    "killed": (lambda w: w.kill(), lambda w: w.start()),
    "without power": (lambda w: w.crash(), lambda w: w.start()),
    "unplugged": (lambda w: w.isolate("unplug"), lambda w: w.rejoin()),
    "behind a firewall": (lambda w: w.isolate("reject"), lambda w: w.rejoin()),
    "frozen": (lambda w: w.pause(), lambda w: w.resume()),
}


@scenario(raft=("primary",), way=WAYS)
@scenario(**LEADING_WITNESS_GOES, way=WAYS,
          ci=("witness_away[killed, witness leads Raft, 30/10/10]",
              "witness_away[frozen, witness leads Raft, 30/10/10]"))
def witness_away(s, way):
    go, come_back = WAYS[way]
    primary = s.primary()
    go(s.witness)
    s.await_raft(*s.nodes)
    s.commit_something()
    come_back(s.witness)
    s.await_following(s.witness)
    s.await_unnoticed(primary)


@scenario(raft=("primary", "witness"), timing=("20/2/5", "30/10/10"),
          ci=("witness_restarted_during_failover[primary leads Raft]",))
def witness_restarted_during_failover(s):
    old = s.primary()
    old.crash()
    s.await_raft("witness", s.other(old).name)
    s.witness.restart()
    # S8: if it leads, its restart begins the keys' age anew.
    ttl, loop_wait = s.timing["ttl"], s.timing["loop_wait"]
    s.await_failover(old, limit_s=2 * ttl + 3 * loop_wait + 5)
    old.start()


def _voter_without_state(s):
    """A new card, until its word counts again."""
    s.witness.kill()
    s.witness.wipe()
    s.witness.start()
    s.await_following(s.witness)


@scenario(raft=("primary", "witness"), timing=("20/2/5", "30/10/10"),
          ci=("witness_wiped_then_primary_lost[witness leads Raft]",))
def witness_wiped_then_primary_lost(s):
    _voter_without_state(s)
    s.await_well()
    old = s.primary()
    old.crash()
    s.await_failover(old)
    old.start()


@scenario(raft=("primary",), reference="it votes at once without its state, and may forget what was committed")
def witness_wiped_while_the_standby_is_down(s):
    # S7, and the README's steps, word by word.
    primary, standby = s.primary(), s.standby()
    heard = s.witness.log_end()
    standby.crash()
    s.witness.stop()
    s.witness.wipe()
    s.witness.start()
    # It cannot know whether the two that are gone had committed something together.
    await_that(lambda: s.primary() is None, 3 * s.timing["ttl"], "no majority without the witness's state")
    waits = r"no vote \(recovering\): .* run: \S+ adopt --accept-loss stereo --config \S+$"
    await_that(lambda: s.witness.said(waits, heard), 60, s.describe)
    assert not s.witness.said(r"^voted for |is a voter now|this witness leads", heard)

    s.witness.stop()
    told = s.witness.operator("adopt", "--accept-loss", "stereo")
    assert "adopted a log that ends with entry" in told
    s.witness.start()
    await_that(lambda: s.primary() is primary, 90, s.describe)
    s.application.await_writes(10)
    standby.start()
    s.await_well()


def _contents(folder):
    """File by file, what a folder holds."""
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*")) if file.is_file()}


@scenario(raft=("primary",), only_ours=True)
def witness_swapped_for_pythons_and_back(s):
    # Same file, same address, same folder, under writes; neither touches the other's.
    primary, witness = s.primary(), s.witness

    def replace_by(kind):
        witness.stop()
        left = _contents(witness.data)
        witness.kind = kind
        witness.start()
        s.await_following(witness)
        s.commit_something()
        return left

    ours = replace_by("python")
    pythons = replace_by("rust")
    assert {name: pythons[name] for name in ours} == ours, "Python changed what is ours"
    theirs = set(pythons) - set(ours)
    assert theirs, "Python has written nothing"
    # And it is whole: it leads, and hands back.
    s.give_raft_to("witness")
    s.give_raft_to(primary.name)
    now = _contents(witness.data)
    assert {name: now[name] for name in theirs} == {name: pythons[name] for name in theirs}
    s.await_unnoticed(primary)
