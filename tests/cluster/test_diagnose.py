"""`pg-witness diagnose` describes the witness that it asks, and not the desk."""

import json
import os
import subprocess

import pytest
from rig import paths
from rig.ports import free_port
from rig.process import Process, await_that

pytestmark = pytest.mark.ours

#: What stands in the configuration and may not leave it.
PASSWORD = "hunter2-of-the-group"


def diagnose(folder, *words):
    """The bundle's text, made on a desk where nothing is configured."""
    plain = {name: value for name, value in os.environ.items()
             if not name.startswith(("PATRONI_", "PG_WITNESS_"))}
    bundle = folder / f"bundle-{len(list(folder.iterdir()))}"
    subprocess.run([paths.pg_witness(), "diagnose", bundle, *words], check=True, timeout=60,
                   stdout=subprocess.DEVNULL, env={**plain, "HOME": str(folder)})
    return bundle.read_text()


@pytest.fixture
def board(tmp_path):
    """A witness of a cluster `orders`, and where it is asked."""
    page = f"127.0.0.1:{free_port()}"
    file = tmp_path / "board.json"
    cluster = {"name": "orders", "self_addr": f"127.0.0.1:{free_port()}", "password": PASSWORD,
               "partner_addrs": [f"127.0.0.1:{free_port()}"], "data_dir": str(tmp_path / "state")}
    file.write_text(json.dumps({"clusters": [cluster], "http": {"listen": page}}))
    file.chmod(0o600)
    log = tmp_path / "log"
    process = Process([paths.pg_witness(), "run", file], log)
    try:
        await_that(lambda: "the status is at" in log.read_text(), 30, log.read_text)
        await_that(lambda: (tmp_path / "state/hard-state").exists(), 30, log.read_text)
        # The cluster is shown once it has started.
        await_that(lambda: "listening on" in log.read_text(), 30, log.read_text)
        yield f"http://{page}", file
    finally:
        process.kill()


def test_a_remote_witness_tells_of_itself(board, tmp_path):
    url, file = board
    for words in (["--url", url], ["--config", file]):
        text = diagnose(tmp_path, *words)
        assert f"asked: {url}/" in text
        assert f"configuration: {file}, JSON" in text and "cluster orders" in text
        assert "password" in text and PASSWORD not in text
        assert "hard-state" in text
        assert '"cluster":"orders"' in text
        assert "demo" not in text
        assert [text.count(f"==== {part}\n") for part in ("system", "configuration", "state")] == [1, 1, 1]


def test_nothing_of_the_desk_stands_for_a_board_that_does_not_answer(tmp_path):
    text = diagnose(tmp_path, "--url", f"http://127.0.0.1:{free_port()}")
    assert "no witness answers at http://127.0.0.1:" in text
    assert "==== system" not in text and "demo" not in text


def test_a_witness_that_is_down_is_told_of_by_its_file(board, tmp_path):
    _, file = board
    down = tmp_path / "down.json"
    down.write_text(file.read_text().replace(json.loads(file.read_text())["http"]["listen"],
                                             f"127.0.0.1:{free_port()}"))
    down.chmod(0o600)
    text = diagnose(tmp_path, "--config", down)
    assert "no witness answers" in text and f"configuration: {down}, JSON" in text
    assert PASSWORD not in text
