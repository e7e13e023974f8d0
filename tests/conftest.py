"""What one says to pytest about the witness and the size of the suite, and the
fixture `cluster`: two real nodes and the witness, formed."""

import collections
import zlib

import pytest
from harness import Cluster
from rig import witness

#: name: (pysyncobj of a, of b, password, whether the witness dials)
SETS = {
    "0.3.11": ("0.3.11", "0.3.11", None, True),
    "0.3.11-password": ("0.3.11", "0.3.11", "secret", False),
    "0.3.14": ("0.3.14", "0.3.14", None, True),
    "0.3.14-password": ("0.3.14", "0.3.14", "secret", False),
    "0.3.17": ("0.3.17", "0.3.17", None, False),
    "0.3.17-password": ("0.3.17", "0.3.17", "secret", True),
    "mixed": ("0.3.14", "0.3.17", None, False),
    "mixed-password": ("0.3.11", "0.3.17", "secret", True),
}

#: `normal`: each release, each way to dial, and a password with and without, at least
#: once; of these each case of a test gets one, another case another (`of_turn`).
SIZES = {
    "quick": ["0.3.17-password"],
    "normal": ["0.3.11", "0.3.14-password", "0.3.17", "0.3.17-password", "mixed-password"],
    "long": list(SETS),
}


def pytest_addoption(parser):
    parser.addoption("--witness", choices=witness.KINDS, default="rust")
    parser.addoption("--size", choices=list(SIZES), default="normal")
    parser.addoption("--seed", type=int, default=None, help="of the fault loop; default: by the clock")


def pytest_generate_tests(metafunc):
    if "versions" in metafunc.fixturenames:
        names = SIZES[metafunc.config.getoption("--size")]
        metafunc.parametrize("versions", [SETS[name] for name in names], ids=names, scope="function")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--size") != "long":
        left_out = set(items) - set(of_turn(items))
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    if config.getoption("--witness") == "python":
        reason = pytest.mark.skip(reason="Python's witness is known to fail it")
        for item in items:
            if "ours" in item.keywords:
                item.add_marker(reason)
    if hasattr(config, "workerinput"):
        # Several at once: the longest begin, so that none is left over at the end.
        items.sort(key=_longest_s, reverse=True)


def of_turn(items):
    """What is left of `items` when `versions`, and the arguments that a mark `in_turn` names,
    have one value only in each case of a test, in another case another value. Which one
    follows from the name of the test and the number of the case alone, so that it is the
    same in every run. A mark `sets` names those of `versions` that a test is about."""
    given = {item: item.callspec.params if hasattr(item, "callspec") else {} for item in items}
    values = collections.defaultdict(list)
    for item in items:
        for name, value in given[item].items():
            known = values[_test(item), name]
            if value not in known:
                known.append(value)

    def has_its_turn(item):
        turning = {"versions", *(name for mark in item.iter_markers("in_turn") for name in mark.args)}
        numbers = {name: values[_test(item), name].index(value) for name, value in given[item].items()}
        others = [number for name, number in sorted(numbers.items()) if name not in turning]
        turn = zlib.crc32(item.originalname.encode()) + sum(place * n for place, n in enumerate(others, 1))
        about = item.get_closest_marker("sets")
        if about and len(values[_test(item), "versions"]) > 1:
            return given[item]["versions"] in [SETS[name] for name in about.args]
        return all(number == turn % len(values[_test(item), name])
                   for name, number in numbers.items() if name in turning)

    return [item for item in items if has_its_turn(item)]


def _test(item):
    return item.nodeid.partition("[")[0]


def _longest_s(item):
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 0


@pytest.fixture
def kind(request):
    """Who is the witness: `rust` or `python`."""
    return request.config.getoption("--witness")


@pytest.fixture
def size(request):
    return request.config.getoption("--size")


@pytest.fixture
def seed(request):
    return request.config.getoption("--seed")


@pytest.fixture
def cluster(versions, kind, tmp_path):
    """A formed cluster of one set of versions."""
    a, b, password, witness_dials = versions
    with Cluster(tmp_path, (a, b), password, kind, witness_dials) as formed:
        yield formed.start()
