"""The main failovers without a synchronous standby: what is lost then is reported."""

from ..scenario import scenario

ASYNCHRONOUS = {"synchronous": (False,), "raft": ("primary", "witness")}


@scenario(**ASYNCHRONOUS, ci=("primary_loses_power_asynchronous[witness leads Raft, asynchronous]",))
def primary_loses_power_asynchronous(s):
    old = s.primary()
    old.crash()
    s.await_failover(old)
    old.start()


@scenario(**ASYNCHRONOUS)
def primary_killed_asynchronous(s):
    old = s.primary()
    old.kill()
    s.await_failover(old)
    old.start()


@scenario(**ASYNCHRONOUS, by=("unplug", "reject"))
def primary_isolated_asynchronous(s, by):
    # What it acknowledges on its own machine until it sees that it is alone is lost.
    old = s.primary()
    old.isolate(by)
    s.await_failover(old)
    old.rejoin()
