"""Single lines fail while all machines live: nobody is alone, and not all reach all."""

from ..scenario import LEADING_WITNESS_GOES, scenario


@scenario(raft=("primary", "standby", "witness"), ci=("primary_and_standby_apart[witness leads Raft]",))
def primary_and_standby_apart(s):
    # The witness reaches both. Whoever is primary in the end, it was one at a time.
    s.cut(s.primary(), s.standby())
    s.endure(40)
    s.heal()


@scenario(raft=("primary", "standby"))
@scenario(**LEADING_WITNESS_GOES)
def witness_and_primary_apart(s):
    primary = s.primary()
    s.cut(s.witness, primary)
    s.endure(20)
    s.commit_something()
    s.heal()
    s.await_unnoticed(primary)


@scenario(raft=("primary", "standby"))
@scenario(**LEADING_WITNESS_GOES)
def witness_and_standby_apart(s):
    primary = s.primary()
    s.cut(s.witness, s.standby())
    s.endure(20)
    s.commit_something()
    s.heal()
    s.await_unnoticed(primary)


@scenario(raft=("primary", "witness"), silent=("primary", "standby"))
def one_way_between_the_nodes(s, silent):
    # What one sends to the other is lost; what the other sends arrives.
    one = s.primary() if silent == "primary" else s.standby()
    s.cut(one, s.other(one), one_way=True)
    s.endure(40)
    s.heal()


@scenario(raft=("primary", "witness"), silent=("witness", "primary"))
def one_way_to_the_witness(s, silent):
    primary = s.primary()
    pair = (s.witness, primary) if silent == "witness" else (primary, s.witness)
    s.cut(*pair, one_way=True)
    s.endure(20)
    s.heal()
    s.await_unchanged(primary)


@scenario(raft=("primary",))
@scenario(**LEADING_WITNESS_GOES, ci=("witness_far_away[witness leads Raft, 30/10/10]",))
def witness_far_away(s):
    # A quarter of a second there and back, on its links of Raft.
    s.slow(s.witness, 125)
    s.await_raft(*s.members)
    s.commit_something()
    s.endure(10)
    s.await_unnoticed(s.await_well())
    old = s.primary()
    old.crash()
    s.await_failover(old)
    old.start()


@scenario(raft=("primary",), percent=(5, 20))
@scenario(**LEADING_WITNESS_GOES, percent=(5, 20))
def witness_on_a_bad_line(s, percent):
    primary = s.primary()
    s.witness.lose(percent)
    s.endure(30)
    s.await_unnoticed(primary)
    s.witness.rejoin()


@scenario(raft=("primary", "witness"))
def failover_on_bad_lines(s):
    for member in s.members.values():
        member.lose(3)
    old = s.primary()
    old.crash()
    s.await_failover(old, limit_s=2 * s.timing["ttl"])
    s.heal()
    old.start()
