"""What the probe says of a real PostgreSQL in each state it can be in, of every
major version that is here."""

import os
import signal

from rig.process import await_that

HOST = "host all all all"


def test_accepting_by_each_authentication(server, ask, ask_until):
    for method, text in [("trust", "no password"), ("md5", "MD5"), ("scram-sha-256", "SCRAM-SHA-256"),
                         ("password", "a password in clear text")]:
        server.hba(f"{HOST} {method}")
        if server.process is None:
            server.start()
        user = "md5er" if method == "md5" else "scrammer"
        # Until the postmaster has read the file again.
        said = ask_until(lambda said: said["text"] == f"asked for {text}", server.url(), user=user)
        assert (said["answer"], said["health"]) == ("accepting", "healthy")
        assert said["target"] == f"127.0.0.1:{server.port}"
        assert 0 < said["latency_ms"] < 5000
    # Leaving was polite: the server has no complaint about any of it.
    log = server.output()
    assert "connection received" in log
    for complaint in ("FATAL", "ERROR", "reset by peer", "Broken pipe", "unexpected", "invalid"):
        assert complaint not in log, log


def test_accepting_by_an_error_of_a_running_server(server, ask, ask_until):
    server.hba("host all all ::1/128 trust")
    server.start()
    said = ask(server.url())
    assert (said["answer"], said["sqlstate"], said["severity"]) == ("accepting", "28000", "FATAL")
    assert "pg_hba.conf" in said["message"]
    # IPv6, a role and a database that are not there.
    assert ask(server.url("[::1]"))["text"] == "asked for no password"
    for unknown in ({"user": "nobody"}, {"database": "nowhere"}):
        assert ask(server.url("[::1]"), **unknown)["answer"] == "accepting"


def test_too_many_connections(server, ask, ask_until):
    server.set(max_connections=3, superuser_reserved_connections=0, max_wal_senders=0)
    server.hba(f"{HOST} trust")
    server.start()
    held = [server.session() for _ in range(3)]
    said = ask(server.url())
    assert (said["answer"], said["sqlstate"], said["health"]) == ("too-many-connections", "53300", "suspect")
    held.pop().close()
    ask_until(lambda said: said["answer"] == "accepting", server.url())


def test_reserved_connections_are_none_for_us(server, ask, ask_until):
    server.set(max_connections=4, superuser_reserved_connections=2, max_wal_senders=0)
    server.hba(f"{HOST} trust")
    server.start()
    held = [server.session() for _ in range(2)]
    assert ask(server.url(), user="plain")["answer"] == "too-many-connections"
    assert ask(server.url(), user="postgres")["answer"] == "accepting"
    assert held


def test_starting_up(server, ask, ask_until):
    server.recover(restore_command="'sleep 600'")
    server.start(until="listening on")
    said = ask_until(lambda said: said["answer"] != "refused", server.url())
    assert (said["answer"], said["sqlstate"]) == ("starting-up", "57P03")
    assert said["message"] == "the database system is starting up"


def test_in_recovery_without_hot_standby(server, ask, ask_until):
    server.recover(hot_standby="off")
    server.start(until="listening on")
    # Before 14 it cannot be told from a start.
    expected = "not-accepting" if server.major >= 14 else "starting-up"
    said = ask_until(lambda said: said["answer"] == expected, server.url())
    assert said["sqlstate"] == "57P03"
    if server.major >= 14:
        assert "Hot standby mode is disabled." in said["text"]


def test_shutting_down(server, ask, ask_until):
    server.hba(f"{HOST} trust")
    server.start()
    held = server.session()
    os.kill(server.pid, signal.SIGTERM)
    said = ask_until(lambda said: said["answer"] != "accepting", server.url())
    assert (said["answer"], said["sqlstate"]) == ("shutting-down", "57P03")
    assert said["message"] == "the database system is shutting down"
    held.close()
    ask_until(lambda said: said["answer"] == "refused", server.url())


def test_after_a_crash_of_a_backend(server, ask, ask_until):
    server.hba(f"{HOST} trust")
    server.start()
    sessions = [server.session(), server.session()]
    backends = await_that(lambda: [pid for pid, title in server.children().items() if " postgres postgres" in title
                                   and "idle" in title][:2], 10, server.children)
    assert len(backends) == 2
    # It does not end at once, so the postmaster waits for it.
    os.kill(backends[0], signal.SIGSTOP)
    os.kill(backends[1], signal.SIGKILL)
    said = ask_until(lambda said: said["answer"] == "not-accepting", server.url())
    assert said["sqlstate"] == "57P03"
    assert said["message"] == "the database system is in recovery mode"
    assert sessions


def test_a_stopped_server_is_silent(server, ask, ask_until):
    server.hba(f"{HOST} trust")
    server.start()
    server.process.pause()
    said = ask(server.url(), timeout=1)
    assert (said["answer"], said["text"]) == ("silent", "connected, but no answer")
    server.process.resume()
    assert ask(server.url())["answer"] == "accepting"


def test_a_hot_standby_tells_that_it_is_one(server, ask, tmp_path):
    password = tmp_path / "password"
    password.write_text("pass word\n")
    server.hba("host all md5er all md5", "host all scrammer all scram-sha-256", "host all postgres all trust",
               "host all plain all password")
    server.set(wal_level="replica")
    server.start()
    for user in ("md5er", "scrammer", "postgres"):
        said = ask(server.url(), user=user, password_file=password)
        assert (said["answer"], said["login"]) == ("accepting", "primary"), user
    wrong = tmp_path / "wrong"
    wrong.write_text("another\n")
    for user in ("md5er", "scrammer"):
        said = ask(server.url(), user=user, password_file=wrong)
        assert said["answer"] == "accepting"
        assert said["login"].startswith("refused: 28P01"), user
    # Never in clear text.
    said = ask(server.url(), user="plain", password_file=password)
    assert said["login"].startswith("failed: the password is asked for in clear text")
    said = ask(server.url(), user="scrammer", database="nowhere", password_file=password)
    assert said["answer"] == "accepting" and said["login"].startswith("refused: 3D000")
    server.stop(signal.SIGINT)
    server.recover(hot_standby="on", restore_command="'/bin/false'")
    server.start()
    for user in ("md5er", "scrammer"):
        said = ask(server.url(), user=user, password_file=password)
        assert (said["answer"], said["login"]) == ("accepting", "in recovery"), user
    assert "pass word" not in server.output()


def test_reserved_connections_show_at_login(server, ask, tmp_path):
    password = tmp_path / "password"
    password.write_text("pass word\n")
    server.set(max_connections=4, superuser_reserved_connections=2, max_wal_senders=0)
    server.hba("host all scrammer all scram-sha-256", f"{HOST} trust")
    server.start()
    held = [server.session() for _ in range(2)]
    said = ask(server.url(), user="scrammer", password_file=password)
    assert said["answer"] == "too-many-connections"
    assert said["login"].startswith("refused: 53300")
    assert held
