"""The images, built once by their own command, and a cluster with one that boots."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guest import BOARDS, BootedCluster
from rig.network import Network
from rig.paths import ROOT

sys.path.insert(0, str(ROOT / "image"))

from kit.build import prepare  # noqa: E402
from kit.common import target, target_dir  # noqa: E402


def with_features(name, features):
    """The program of an image with features that the product has not."""
    board = target({"pi": "aarch64", "x86": "x86_64"}[name])
    to = target_dir() / "with" / features
    subprocess.run(["cargo", "build", "--release", "--locked", "--features", f"appliance,{features}",
                    "--target", board.triple, "--target-dir", to],
                   cwd=ROOT, env=prepare([board]), check=True)
    return to / board.triple / "release/pg-witness"


@pytest.fixture(scope="session")
def card(tmp_path_factory):
    """A function from an image's name, and from features of the program in it, to the
    image. `PG_WITNESS_CARDS` may name a folder that has them, each set of features in
    a folder of its own."""
    @functools.cache
    def build(name, features=""):
        given = os.environ.get("PG_WITNESS_CARDS")
        folder = Path(given, features) if given else tmp_path_factory.mktemp("cards")
        if not given:
            program = ["--program", with_features(name, features)] if features else []
            subprocess.run([ROOT / "image/cards", name, *program, "--to", folder], check=True)
        return folder / f"pg-witness-{name}.img"

    return build


@pytest.fixture
def booted(request, card, tmp_path):
    """A cluster whose witness is a board, off so far; the test's parameter names it."""
    board = request.param
    with Network(f"g{board[0]}") as network:
        with BootedCluster(tmp_path, network, board, card(BOARDS[board][0]), "secret") as cluster:
            yield cluster
