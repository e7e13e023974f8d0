"""Wall clocks that are wrong. Patroni stamps its keys with them; pg-witness expires by
the time that passed (S8), Python by its own wall clock."""

from ..scenario import scenario


def _wrong(node, ahead_s):
    node.patroni.clock_ahead_s = ahead_s
    node.patroni.stop()
    node.patroni.start()


@scenario(raft=("witness",), ahead_s=(3600, -3600), ci=("witness_clock_wrong[3600, witness leads Raft]",),
          reference="its wall clock decides: the keys expire at once, or an hour late")
def witness_clock_wrong(s, ahead_s):
    s.witness.program.clock_ahead_s = ahead_s
    s.witness.stop()
    s.witness.start()
    s.await_following(s.witness)
    s.give_raft_to("witness")
    old = s.await_well()
    old.crash()
    s.await_failover(old)
    if s.witness.ours:
        expired = s.witness.said("^key expired: .*/leader$")[-1].time - ahead_s
        cut = next(at for at, text in s.steps if text.endswith("power cut"))
        # Refreshed at most a loop before; never sooner than it may be.
        assert s.timing["ttl"] - s.timing["loop_wait"] - 1 < expired - cut < s.timing["ttl"] + 2
    old.start()


@scenario(ahead_s=(10, -10))
def primarys_clock_wrong(s, ahead_s):
    _wrong(s.primary(), ahead_s)
    s.await_well()
    s.give_raft_to("witness")
    old = s.await_well()
    old.crash()
    s.await_failover(old, limit_s=s.timing["ttl"] + abs(ahead_s) + 3 * s.timing["loop_wait"] + 5)
    old.start()


@scenario(ahead_s=(3600, -3600), reference="the keys of both nodes are an hour off its own clock")
def both_nodes_clocks_wrong(s, ahead_s):
    # Both alike, as behind one bad time server; only the witness's clock is right.
    _wrong(s.standby(), ahead_s)
    s.give_raft_to("witness")
    _wrong(s.primary(), ahead_s)
    s.await_well()
    s.give_raft_to("witness")
    old = s.await_well()
    old.crash()
    s.await_failover(old)
    old.start()
