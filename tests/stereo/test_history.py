"""The judge is judged: each history that cannot happen is found, and no other."""

from stereo.application import Write
from stereo.history import off_the_path, out_of_order, parse_switches, two_primaries


def write(begin, end, server="10.0.0.1", timeline=1, lsn=100, id_=1):
    return Write("app", begin, end, id_, server, timeline, lsn)


def test_a_failover_is_no_split():
    assert two_primaries([
        write(1.0, 1.1),
        # Sent before the promotion, and its acknowledgement late.
        write(1.2, 3.5),
        write(3.0, 3.1, server="10.0.0.2", timeline=2),
    ]) == []


def test_an_old_primary_that_goes_on_is_found():
    found = two_primaries([
        write(3.0, 3.1, server="10.0.0.2", timeline=2),
        write(3.2, 3.3),
    ])
    assert len(found) == 1 and "timeline 1 (10.0.0.1)" in found[0]


def test_two_servers_on_one_timeline_are_found():
    assert two_primaries([write(1.0, 1.1), write(2.0, 2.1, server="10.0.0.2")])


def test_what_was_written_after_the_fork_is_lost():
    switches = parse_switches("1\t0/64\tno recovery target specified\n")
    assert switches == {1: 100}
    before, after = write(1.0, 1.1, lsn=99), write(1.2, 1.3, lsn=100)
    assert off_the_path([before, after, write(2.0, 2.1, timeline=2)], 2, switches) == [after]


def test_a_timeline_of_another_past_is_lost():
    assert off_the_path([write(1.0, 1.1, timeline=2)], 3, {1: 50})


def test_positions_have_two_halves():
    assert parse_switches("2\tA/10\tx\n") == {2: (10 << 32) + 16}


def test_rows_go_forward():
    assert out_of_order([("app", 1, 1), ("app", 2, 2), ("on-a", 1, 1)]) == []
    assert out_of_order([("app", 1, 2), ("app", 2, 1)])
