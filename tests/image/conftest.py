"""What `image/` makes, as it is published: built here by its own scripts, and run."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rig.paths import ROOT

sys.path.insert(0, str(ROOT / "image"))

from engine import Engine  # noqa: E402
from kit.common import target  # noqa: E402


@pytest.fixture(scope="session")
def built():
    """A function from a target's name to its program, as `image/build` makes it."""
    @functools.cache
    def build(name):
        done = subprocess.run([ROOT / "image/build", name], stdout=subprocess.PIPE, text=True, check=True)
        return Path(done.stdout.split()[2])

    return build


@pytest.fixture
def as_witness(built, tmp_path, monkeypatch):
    """Makes the program for a board the witness of this test's clusters, run by qemu
    where it must be."""
    def use(name):
        script = tmp_path / "pg-witness"
        words = [*target(name).runner, built(name)]
        script.write_text(f"#!/bin/sh\nexec {' '.join(map(str, words))} \"$@\"\n")
        script.chmod(0o755)
        monkeypatch.setenv("PG_WITNESS_BIN", str(script))

    return use


@pytest.fixture(scope="session")
def made(built, tmp_path_factory):
    """A function that makes the container image or the packages for some targets, and
    returns the folder that they are in."""
    @functools.cache
    def make(script, *names):
        folder = tmp_path_factory.mktemp(script)
        subprocess.run([ROOT / "image" / script, *names, "--to", folder], check=True)
        return folder

    return make


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A real Docker engine of our own."""
    # A socket's path must be short.
    folder = Path(f"/tmp/pgw-docker-{os.getpid()}")
    folder.mkdir()
    try:
        with Engine(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)
