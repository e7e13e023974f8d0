"""One failover, from the power cut to the first write on the new primary, told as a
timeline."""

import time
from dataclasses import dataclass

from rig.process import await_that

from .cluster import moment


@dataclass
class Failover:
    """What happened; times are seconds since the epoch on this machine's clock."""

    victim: str
    raft_leader_before: str
    raft_leader_after: str
    cut: float
    outage_s: float
    timeline: list  # (time, sentence), oldest first
    lost: list  # ids that were acknowledged and are gone: must be empty

    def told(self):
        lines = [f"  {moment(time_)}  {time_ - self.cut:+7.2f} s  {what}" for time_, what in self.timeline]
        return "\n".join([*lines, f"  outage as the application saw it: {self.outage_s:.1f} s"])


def fail_over(stereo, raft_leader):
    """Cuts the power of the primary's machine while `raft_leader` ("witness", or "node"
    for the primary's own node) leads the Raft group; waits until the application writes
    again, and looks for what it lost."""
    victim = stereo.await_in_sync()
    survivor = stereo.other(victim)
    leader = "witness" if raft_leader == "witness" else victim.name
    stereo.transfer(leader)
    stereo.await_in_sync()
    term = stereo.observer.last("raft", subject=leader)["term"]
    written = len(stereo.application.acknowledged())
    await_that(lambda: len(stereo.application.acknowledged()) > written + 100, 60, stereo.describe)

    cut = time.time()
    victim.crash()
    limit_s = 2 * stereo.timing["ttl"] + 4 * stereo.timing["loop_wait"] + 30
    observer = stereo.observer
    promoted = observer.await_event("postgres", cut, limit_s, subject=survivor.name, role="primary")
    first = await_that(lambda: stereo.application.first_after(promoted["time"]), limit_s, stereo.describe)
    last = stereo.application.last_before(cut + 0.5)

    timeline = [(last, "last write acknowledged"),
                (cut, f"power cut of {victim.name}'s machine: primary"
                      + (" and Raft leader" if leader == victim.name else ""))]
    new_leader = stereo.raft_leader()
    if leader == victim.name:
        elected = [event for event in observer.events("raft", cut, subject=new_leader, leads=True)
                   if event["term"] > term]
        timeline += [(event["time"], f"{new_leader} leads the Raft group (term {event['term']}); the other "
                                     "survivor gave its vote") for event in elected[:1]]
    expired = observer.events("key", cut, subject="leader", value=None)
    timeline += [(event["time"], f"{victim.name}'s leader key expired") for event in expired[:1]]
    taken = observer.events("key", cut, subject="leader", value=survivor.name)
    timeline += [(event["time"], f"{survivor.name} took the leader key") for event in taken[:1]]
    timeline += [(promoted["time"], f"{survivor.name} is promoted"), (first, "first write acknowledged")]
    return Failover(victim.name, leader, new_leader, cut, first - last,
                    sorted(timeline), stereo.lost_writes())
