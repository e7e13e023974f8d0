"""Whether what was acknowledged can have happened: by the order of the writes and
promotions, and not only by what is there in the end."""

from collections import defaultdict


def two_primaries(writes):
    """What shows that two servers acknowledged writes as primaries at the same time.

    A promotion begins a timeline. So no two servers acknowledge on the same, and once
    a write was acknowledged on a timeline, none that is sent later is acknowledged on
    an older one. (One that was sent before may be: its answer was under way.)"""
    servers = defaultdict(set)
    first = {}
    for write in writes:
        servers[write.timeline].add(write.server)
        if write.timeline not in first or write.end < first[write.timeline].end:
            first[write.timeline] = write
    found = [f"timeline {timeline} was written on {' and on '.join(sorted(on))}"
             for timeline, on in sorted(servers.items()) if len(on) > 1]
    for write in writes:
        newer = next((other for timeline, other in first.items()
                      if timeline > write.timeline and other.end < write.begin), None)
        if newer:
            found.append(
                f"{write.client} {write.id}: sent {write.begin - newer.end:.3f} s after the first "
                f"acknowledgement on timeline {newer.timeline} ({newer.server}) and acknowledged on "
                f"timeline {write.timeline} ({write.server})")
    return found


def off_the_path(writes, timeline, switches):
    """Acknowledged writes that are not in the past of the primary on `timeline`.

    `switches`: older timeline -> the WAL position at which it was left, as the
    primary's timeline history tells."""
    def in_past(write):
        if write.timeline == timeline:
            return True
        return write.timeline in switches and write.lsn < switches[write.timeline]

    return [write for write in writes if not in_past(write)]


def out_of_order(rows):
    """Rows `(client, id, timeline)` of the table that went back to an older timeline."""
    latest = defaultdict(int)
    found = []
    for client, id_, timeline in sorted(rows):
        if timeline < latest[client]:
            found.append(f"{client} {id_} is of timeline {timeline}, after {latest[client]}")
        latest[client] = max(latest[client], timeline)
    return found


def parse_switches(history):
    """The content of a `.history` file: lines of timeline, position, reason."""
    switches = {}
    for line in history.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0].isdigit():
            high, low = fields[1].split("/")
            switches[int(fields[0])] = (int(high, 16) << 32) + int(low, 16)
    return switches
