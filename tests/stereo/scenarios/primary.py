"""The primary's node fails, in each way that a node can."""

from ..scenario import scenario

BOTH = ("20/2/5", "30/10/10")


@scenario(raft=("primary", "standby", "witness"), timing=BOTH,
          ci=("primary_loses_power[primary leads Raft]", "primary_loses_power[witness leads Raft]"))
def primary_loses_power(s):
    old = s.primary()
    old.crash()
    s.await_failover(old)
    old.start()


@scenario(raft=("primary", "witness"), timing=BOTH)
def primary_killed(s):
    old = s.primary()
    old.kill()
    s.await_failover(old)
    old.start()


@scenario(raft=("primary", "witness"), ci=("primary_stopped_in_order[witness leads Raft]",))
def primary_stopped_in_order(s):
    old = s.primary()
    old.stop()
    s.await_failover(old)
    old.start()


@scenario(raft=("primary", "witness"), by=("unplug", "drop", "reject"),
          ci=("primary_isolated[drop, primary leads Raft]",))
def primary_isolated(s, by):
    # It lives on, and somebody on it writes: it must see by itself that it is alone.
    old = s.primary()
    old.isolate(by)
    s.await_failover(old)
    old.rejoin()


@scenario(raft=("primary", "witness"))
def primarys_postgres_killed(s):
    # Patroni starts it again, or lets the standby take over.
    s.primary().postgres.kill()
    s.application.await_writes(50)


@scenario(raft=("witness",))
def primarys_postgres_stopped(s):
    # In order, behind Patroni's back.
    s.primary().postgres.stop()
    s.application.await_writes(50)


@scenario(raft=("primary", "witness"), ci=("primarys_patroni_killed[primary leads Raft]",))
def primarys_patroni_killed(s):
    # PostgreSQL lives on unattended, and clients go on finding it. Synchronous, it
    # acknowledges nothing any more once the standby is promoted.
    old = s.primary()
    old.patroni.kill()
    s.await_promotion(s.other(old))
    s.endure(5)
    old.patroni.start()


@scenario(raft=("primary", "witness"))
def primarys_patroni_restarted(s):
    s.primary().patroni.restart()
    s.application.await_writes(200)


@scenario(raft=("primary", "witness"), ci=("primary_frozen[primary leads Raft]",))
def primary_frozen(s):
    # It wakes up and takes itself for the primary, and perhaps for the Raft leader.
    old = s.primary()
    old.pause()
    s.await_failover(old)
    old.resume()


@scenario(raft=("primary", "witness"))
def primarys_patroni_frozen(s):
    old = s.primary()
    old.patroni.pause()
    s.await_promotion(s.other(old))
    s.endure(5)
    old.patroni.resume()


@scenario(raft=("primary", "witness"))
def primary_frozen_for_a_moment(s):
    # Shorter than the timers: nothing changes.
    old = s.primary()
    old.pause()
    s.await_raft("witness", s.other(old).name)
    old.resume()
    assert s.await_well() is old
