"""Members come and go: new clusters, new machines, new addresses."""

from rig.process import await_that

from ..scenario import LEADING_WITNESS_GOES, scenario


@scenario(formed=False, order=("together", "witness first", "witness last"), ci=("deployed[together]",))
def deployed(s, order):
    # On an empty cluster, both data nodes at the same moment.
    if order == "witness first":
        s.witness.start()
        await_that(lambda: s.ask(s.witness, "status", limit_s=1), 30, s.describe)
    for node in s.nodes.values():
        node.start()
    s.watch()
    if order == "together":
        s.witness.start()
    if order == "witness last":
        s.await_raft(*s.nodes)
        s.witness.start()
    s.await_well()
    s.begin_to_write()
    s.application.await_writes(50)


@scenario(formed=False, order=("node first", "witness first", "together"),
          ci=("deployed_in_steps[node first]",))
def deployed_in_steps(s, order):
    # The usual first deployment: the second data node comes when the first is primary.
    first, second = s.nodes.values()
    if order == "witness first":
        s.witness.start()
        await_that(lambda: s.ask(s.witness, "status", limit_s=1), 30, s.describe)
    first.start()
    s.watch()
    if order == "node first":
        await_that(lambda: s.ask(first, "status", limit_s=1), 30, s.describe)
    if order != "witness first":
        s.witness.start()
    await_that(lambda: s.primary() is first, 60, s.describe)
    second.start()
    s.await_unchanged(first)
    s.begin_to_write()
    s.application.await_writes(50)


@scenario(raft=("primary", "witness"), witness=("up", "away"),
          ci=("both_nodes_recreated[up, witness leads Raft]",),
          reference="the old cluster's keys are pushed onto the new one, which never bootstraps")
def both_nodes_recreated(s, witness):
    # By an operator who has forgotten the witness. It keeps its state.
    if witness == "away":
        s.witness.stop()
    for node in s.nodes.values():
        node.stop()
        node.wipe()
    s.forget_the_cluster()
    heard = s.witness.log_end()
    for node in s.nodes.values():
        node.start()
    if witness == "away":
        s.await_raft(*s.nodes)
        s.witness.start()
    # The new cluster is as well as one of two can be.
    s.await_well()
    s.begin_to_write()
    s.application.await_writes(50)
    if not s.witness.ours:
        return
    await_that(lambda: s.witness.said(r"run: \S+ reset stereo "), 60, s.describe)
    assert not s.witness.said("^this witness leads|^voted for", heard), "it took part"
    s.witness.stop()
    s.witness.operator("reset", "stereo")
    s.witness.start()
    await_that(lambda: s.witness.said("is a voter now", s.witness.begun), 60, s.describe)


@scenario(raft=("standby", "witness"))
def node_recreated(s):
    # One of them, in its old place: it gets all from the others.
    primary, standby = s.primary(), s.standby()
    standby.crash()
    standby.wipe()
    standby.start()
    s.await_unchanged(primary)


@scenario(raft=("standby", "witness"))
def node_replaced_at_another_address(s):
    primary, standby = s.primary(), s.standby()
    standby.crash()
    s.add_node("c", take_the_place_of=standby)
    s.expel(standby.raft_address)
    s.await_unchanged(primary)
    primary.crash()
    s.await_failover(primary)
    primary.start()


@scenario(raft=("primary",))
@scenario(**LEADING_WITNESS_GOES)
def witness_at_another_address(s):
    primary = s.primary()
    before = s.witness.raft_address
    s.witness.stop()
    s.witness.machine.move(19)
    # As an operator does: the nodes' files name the new one from the next restart on.
    s.expel(before)
    s.witness.start()
    s.watch()
    s.await_following(s.witness)
    s.await_unnoticed(primary)
    primary.crash()
    s.await_failover(primary)
    primary.start()


@scenario(raft=("primary",))
def witness_removed_and_back(s):
    # It does not add itself while it runs; started again, it does.
    primary = s.primary()
    address = s.witness.raft_address
    s.expel(address)
    s.endure(10)
    assert all(address not in (s.member_set(node) or {address}) for node in s.nodes.values())
    s.witness.restart()
    s.await_following(s.witness)
    s.await_unnoticed(primary)


@scenario(raft=("primary", "witness"), ci=("scaled_to_four_and_back[witness leads Raft]",))
def scaled_to_four_and_back(s):
    primary = s.primary()
    for name in ("c", "d"):
        s.add_node(name)
        s.await_well()
    s.commit_something()
    s.remove(s.nodes["d"])
    s.remove(s.nodes["c"])
    s.await_unchanged(primary)
    primary.crash()
    s.await_failover(primary)
    primary.start()


@scenario(raft=("primary", "witness"))
def failover_of_three_nodes(s):
    s.add_node("c")
    s.await_well()
    old = s.primary()
    old.crash()
    s.await_failover(old)
    old.start()
