"""What one says to pytest about the witness and the size of the suite, and the
fixture `cluster`: two real nodes and the witness, formed."""

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
#: once; of these each test gets two, another test another two.
SIZES = {
    "quick": ["0.3.17-password"],
    "normal": ["0.3.11", "0.3.14-password", "0.3.17", "0.3.17-password", "mixed-password"],
    "long": list(SETS),
}


def pytest_addoption(parser):
    parser.addoption("--witness", choices=witness.KINDS, default="rust")
    parser.addoption("--size", choices=list(SIZES), default="normal")
    parser.addoption("--seed", type=int, default=None, help="of the fault loop; default: by the clock")


def sets_for(test, size):
    """The sets of versions that a test runs with, the same in every run."""
    names = SIZES[size]
    if size != "normal":
        return names
    first = zlib.crc32(test.encode()) % len(names)
    return [names[first], names[(first + 2) % len(names)]]


def pytest_generate_tests(metafunc):
    if "versions" in metafunc.fixturenames:
        names = sets_for(metafunc.function.__name__, metafunc.config.getoption("--size"))
        metafunc.parametrize("versions", [SETS[name] for name in names], ids=names, scope="function")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--witness") == "python":
        reason = pytest.mark.skip(reason="Python's witness is known to fail it")
        for item in items:
            if "ours" in item.keywords:
                item.add_marker(reason)


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
