"""The fixtures `server` (each major version in turn) and `ask`."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import postgres
import pytest
from rig import paths
from rig.process import await_that


def asks():
    """The program that asks, as cargo builds examples."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", paths.ROOT / "target"))
    return str(target / "debug/examples/asks")


def pytest_generate_tests(metafunc):
    if "major" in metafunc.fixturenames:
        found = list(postgres.majors())
        if metafunc.config.getoption("--size") == "quick":
            found = [15]
        metafunc.parametrize("major", found, ids=[f"pg{major}" for major in found], scope="session")


@pytest.fixture(scope="session")
def templates():
    """A folder, which others may enter, of clusters to copy."""
    folder = Path(tempfile.mkdtemp(prefix="pgw-probe-"))
    folder.chmod(0o755)
    made = {}

    def of(major):
        if major not in made:
            made[major] = postgres.template(major, folder)
        return made[major]

    yield of
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make(templates):
    """Servers that end with the test."""
    made = []
    folder = Path(tempfile.mkdtemp(prefix="pgw-probe-"))
    folder.chmod(0o755)

    def one(major=15):
        own = folder / str(len(made))
        own.mkdir()
        server = postgres.Server(templates(major), major, own)
        made.append(server)
        return server

    yield one
    for server in made:
        server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(make, major):
    return make(major)


@pytest.fixture
def ask():
    """Asks URLs once: a report for each, or the one for one."""

    def call(*urls, enter=(), limit_s=60, **options):
        words = [f"{name}={value}" for name, value in options.items()]
        done = subprocess.run([*enter, asks(), *words, *urls], capture_output=True, text=True,
                              timeout=limit_s, check=True)
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(reports) == len(urls), done.stderr
        return reports[0] if len(urls) == 1 else reports

    return call


@pytest.fixture
def ask_until(ask):
    """Asks one URL until the report satisfies `condition`, and returns it."""

    def call(condition, url, limit_s=20, **options):
        last = []

        def satisfied():
            last[:] = [ask(url, **options)]
            return last[0] if condition(last[0]) else None

        return await_that(satisfied, limit_s, lambda: f"another report than {last}")

    return call
