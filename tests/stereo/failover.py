"""One failover, from the power cut to the first write on the new primary, told as a
timeline."""

import time
from dataclasses import dataclass

from rig.process import await_that

from .judgement import lost_writes
from .timeline import moment
from .witness_log import end, said


@dataclass
class Failover:
    """What happened; times are seconds since the epoch on this machine's clock."""

    victim: str
    raft_leader_before: str
    raft_leader_after: str
    cut: float
    outage_s: float
    timeline: list  # (time, who says so, sentence), oldest first
    lost: list  # writes that were acknowledged and are gone: must be empty

    def told(self):
        lines = [f"  {moment(time_)}  {time_ - self.cut:+7.2f} s  {who:11}  {what}"
                 for time_, who, what in self.timeline]
        return "\n".join([*lines, f"\n  no write was possible for {self.outage_s:.1f} s"])


def fail_over(stereo, raft_leader):
    """Cuts the power of the primary's machine while `raft_leader` ("witness", or "node"
    for the primary's own node) leads the Raft group; waits until the application writes
    again, and looks for what it lost."""
    victim = stereo.await_well()
    survivor = stereo.other(victim)
    leader = "witness" if raft_leader == "witness" else victim.name
    stereo.give_raft_to(leader)
    stereo.await_well()
    stereo.application.await_writes(100)
    assert stereo.raft_leader() == leader, stereo.describe()

    heard = end(stereo.witness.log)
    cut = time.time()
    victim.crash()
    limit_s = 2 * stereo.timing["ttl"] + 4 * stereo.timing["loop_wait"] + 30
    promoted = stereo.observer.await_event("postgres", cut, limit_s, subject=survivor.name, role="primary")
    first = await_that(lambda: stereo.application.first_after(promoted["time"]), limit_s, stereo.describe)
    last = stereo.application.last_before(cut + 0.5)

    timeline = [
        (last, "application", "last write acknowledged"),
        (cut, "demo", f"power cut of {victim.name}'s machine: the primary"
                      + (", and the Raft leader" if leader == victim.name else "")),
        *(_by_its_log(stereo, heard) if stereo.kind == "rust" else _as_observed(stereo, cut)),
        *((event["time"], "observer", f"{survivor.name} took the leader key") for event in
          stereo.observer.events("key", cut, subject="leader", value=survivor.name)[:1]),
        (promoted["time"], "observer", f"{survivor.name} is promoted"),
        (first, "application", "first write acknowledged"),
    ]
    return Failover(victim.name, leader, stereo.raft_leader(), cut, first - last,
                    sorted(timeline, key=lambda told: told[0]), lost_writes(stereo))


def _by_its_log(stereo, heard):
    """Vote, Raft leader and expiry, in the witness's own words; not what comes after the
    expiry, which is the new primary's affair. `heard`: where its log ended before."""
    log = stereo.witness.log
    expired = said(log, r"^key expired: \S+/leader$", heard)[:1]
    until = expired[0].time if expired else float("inf")
    elections = said(log, r"^voted for |leads, term |^no vote for |heard; starting an election|no longer leads, term ", heard)
    told = [line for line in elections if line.time <= until] + expired
    return [(line.time - stereo.witness.program.clock_ahead_s, "witness", _with_names(stereo, line.text))
            for line in told]


def _as_observed(stereo, cut):
    """The same from outside: Python's controller does not tell."""
    observer = stereo.observer
    elected = [event for event in observer.events("raft", cut, leads=True)
               if event["subject"] == stereo.raft_leader()]
    expired = observer.events("key", cut, subject="leader", value=None)
    return [
        *((event["time"], "observer", f"{event['subject']} leads, term {event['term']}")
          for event in elected[:1]),
        *((event["time"], "observer", "key expired: /service/stereo/leader") for event in expired[:1]),
    ]


def _with_names(stereo, text):
    for name, member in stereo.members.items():
        text = text.replace(member.raft_address, f"{name} ({member.raft_address})")
    return text
