"""What the probe says of pgbouncer, which speaks PostgreSQL's protocol and is
not PostgreSQL: probes go to PostgreSQL's own port, but who points them here
must not be told a lie."""

import shutil

import pytest
from postgres import USER
from rig.ports import free_port
from rig.process import Process, await_that

PGBOUNCER = "/usr/sbin/pgbouncer"


@pytest.fixture
def bouncer(make, tmp_path_factory):
    """A pool before a server of its own: the server, and where the pool listens."""
    server = make()
    server.hba("host all all all trust")
    server.start()
    port = free_port()
    folder = server.data.parent / "pool"
    folder.mkdir()
    processes = []

    def start(auth_type):
        (folder / "users").write_text('"postgres" "pass word"\n"plain" ""\n')
        (folder / "ini").write_text(f"""[databases]
postgres = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = {auth_type}
auth_file = {folder}/users
unix_socket_dir =
server_login_retry = 1
query_wait_timeout = 3
""")
        for file in (folder, folder / "users", folder / "ini"):
            shutil.chown(file, USER, USER)
        log = server.data.parent / "pool.log"
        processes.append(Process([PGBOUNCER, folder / "ini"], log, user=USER, cwd="/"))
        await_that(lambda: "listening" in log.read_text(errors="replace"), 10, log.read_text)
        return f"postgres://127.0.0.1:{port}/postgres"

    yield server, start
    for process in processes:
        process.kill()


def test_it_asks_for_a_password(bouncer, ask, tmp_path):
    _, start = bouncer
    password = tmp_path / "password"
    password.write_text("pass word")
    url = start("scram-sha-256")
    assert ask(url)["text"] == "asked for SCRAM-SHA-256"
    said = ask(url, user="postgres", password_file=password)
    assert (said["answer"], said["login"]) == ("accepting", "primary")


def test_md5(bouncer, ask, tmp_path):
    _, start = bouncer
    password = tmp_path / "password"
    password.write_text("pass word")
    url = start("md5")
    said = ask(url, password_file=password)
    assert (said["text"], said["login"]) == ("asked for MD5", "primary")


def test_its_own_complaints_prove_nothing(bouncer, ask, tmp_path):
    server, start = bouncer
    url = start("trust")
    assert ask(url)["answer"] == "accepting"
    said = ask(url, database="nowhere")
    assert (said["answer"], said["sqlstate"]) == ("not-accepting", "08P01"), said
    assert "nowhere" in said["message"]
    server.stop()
    # It lets in whom it cannot serve; the query shows that.
    password = tmp_path / "password"
    password.write_text("pass word")
    said = ask(url, timeout=10, password_file=password)
    assert said["login"].startswith(("refused: 08P01", "failed:")), said
