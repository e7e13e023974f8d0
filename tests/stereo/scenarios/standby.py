"""The standby's node fails: nobody changes roles, and the writes go on."""

from ..scenario import scenario

RAFT = ("primary", "standby", "witness")


@scenario(raft=RAFT)
def standby_stopped(s):
    primary, standby = s.primary(), s.standby()
    standby.stop()
    s.application.await_writes(100)
    standby.start()
    s.await_unnoticed(primary)


@scenario(raft=RAFT)
def standby_killed(s):
    primary, standby = s.primary(), s.standby()
    standby.kill()
    s.application.await_writes(100)
    standby.start()
    s.await_unchanged(primary)


@scenario(raft=RAFT, ci=("standby_loses_power[standby leads Raft]",))
def standby_loses_power(s):
    # Synchronous, the primary waits until the standby's key has expired.
    primary, standby = s.primary(), s.standby()
    standby.crash()
    s.application.await_writes(100)
    standby.start()
    s.await_unchanged(primary)


@scenario(raft=("standby", "witness"), by=("unplug", "reject"))
def standby_isolated(s, by):
    primary, standby = s.primary(), s.standby()
    standby.isolate(by)
    s.application.await_writes(100)
    standby.rejoin()
    s.await_unchanged(primary)


@scenario(raft=("standby", "witness"))
def standby_frozen(s):
    primary, standby = s.primary(), s.standby()
    standby.pause()
    s.application.await_writes(100)
    standby.resume()
    s.await_unchanged(primary)


@scenario(raft=("standby", "witness"))
def standbys_patroni_killed(s):
    primary, standby = s.primary(), s.standby()
    standby.patroni.kill()
    s.application.await_writes(100)
    standby.patroni.start()
    s.await_unchanged(primary)


@scenario(raft=("primary", "witness"))
def standbys_postgres_killed(s):
    primary, standby = s.primary(), s.standby()
    standby.postgres.kill()
    s.application.await_writes(100)
    s.await_unchanged(primary)


@scenario(raft=("witness",))
def standbys_postgres_frozen(s):
    primary, standby = s.primary(), s.standby()
    standby.postgres.pause()
    s.endure(10)
    standby.postgres.resume()
    s.await_unchanged(primary)


@scenario(raft=("standby", "witness"))
def standby_without_raft_state(s):
    # Patroni's folder is lost, PostgreSQL's is not.
    primary, standby = s.primary(), s.standby()
    standby.patroni.kill()
    standby.wipe_raft()
    standby.patroni.start()
    s.await_following(standby)
    s.await_unchanged(primary)
