"""The images, built once by their own command, and a cluster with one that boots."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guest import BOARDS, BootedCluster, Translated, Wire
from rig.network import Network
from rig.paths import ROOT

sys.path.insert(0, str(ROOT / "image"))

from kit.build import build  # noqa: E402
from kit.common import target  # noqa: E402

def program(name, features):
    """The program of an image with features that the product has not."""
    board = target({"pi": "aarch64", "x86": "x86_64"}[name])
    # Ours alone with assertions, which the bugs want; the crates are the product's.
    assertions = "profile.release.package.pg-witness.debug-assertions=true"
    return build([board], features=features, config=[assertions])[board.name]


@pytest.fixture(scope="session")
def card(tmp_path_factory):
    """A function from an image's name, and from features of the program in it, to the
    image. `PG_WITNESS_CARDS` may name a folder that keeps them: what is there is not
    built again."""
    @functools.cache
    def made(name, features=""):
        given = os.environ.get("PG_WITNESS_CARDS")
        folder = Path(given) if given else tmp_path_factory.mktemp("cards")
        image = folder / features / f"pg-witness-{name}.img"
        if not image.exists():
            words = ["--program", program(name, features)] if features else []
            subprocess.run([ROOT / "image/cards", name, *words, "--to", image.parent], check=True)
        return image

    return made


def cluster_with(board, card, folder, link):
    with Network(f"g{board[0]}") as network:
        with BootedCluster(folder, network, board, card(BOARDS[board][0]), "secret", link) as cluster:
            yield cluster


@pytest.fixture
def booted(request, card, tmp_path):
    """A cluster whose witness is a board, off so far; the test's parameter names it."""
    yield from cluster_with(request.param, card, tmp_path, Translated)


@pytest.fixture
def wired(request, card, tmp_path):
    """The same, on a cable of its own."""
    yield from cluster_with(request.param, card, tmp_path, Wire)
