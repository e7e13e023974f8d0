"""What the probe says of what is no PostgreSQL, of servers that mean harm, and
of the network; and that it keeps to its schedule and its bounds."""

import json
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import asks
from rig.network import Network
from rig.ports import free_port

REQUEST = b"R\0\0\0\x08\0\0\0\x03"


class Fake:
    """Says what `script(connection)` says to whoever connects; counts them."""

    def __init__(self, script, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.script = script
        self.at_once = self.most_at_once = self.connections = 0
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with self.lock:
            self.connections += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            connection.settimeout(20)
            self.script(connection)
        except OSError:
            pass
        with self.lock:
            self.at_once -= 1
        connection.close()

    def url(self, host="127.0.0.1"):
        return f"postgres://{host}:{self.port}/postgres"

    def close(self):
        self.listener.close()


@pytest.fixture
def fake():
    made = []

    def one(script, host="127.0.0.1"):
        server = Fake(script, host)
        made.append(server)
        return server

    yield one
    for server in made:
        server.close()


def says(text, hangs_up=True):
    def script(connection):
        connection.recv(1000)
        connection.sendall(text)
        if not hangs_up:
            connection.recv(1)
    return script


def endless(piece):
    def script(connection):
        while True:
            connection.sendall(piece)
    return script


def slowly(connection):
    for byte in REQUEST:
        connection.sendall(bytes([byte]))
        time.sleep(0.5)


def peak_kib(pid):
    """The most memory that it has had so far."""
    try:
        with open(f"/proc/{pid}/status") as status:
            lines = dict(line.split(":", 1) for line in status)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(lines.get("VmHWM", "0 kB").split()[0])


def test_refused_and_names(ask):
    port = free_port()
    said = ask(f"postgres://127.0.0.1:{port}/")
    assert (said["answer"], said["health"], said["latency_ms"]) == ("refused", "suspect", None)
    assert ask(f"postgres://localhost:{port}/")["answer"] == "refused"
    assert ask(f"postgres://[::1]:{port}/")["answer"] == "refused"
    unknown = ask("postgres://no-such-host.invalid:5432/")
    assert unknown["answer"] == "unreachable"
    bad = ask("postgres://%2Fvar%2Frun/postgres")
    assert (bad["answer"], bad["health"]) == ("no-target", "unknown")


def test_unreachable_and_black_holes(ask):
    with Network("probe", "10.78.0") as network:
        machine = network.machine("one", 1)
        other = network.machine("other", 2)
        # Nobody has this address; the next is a way to nowhere; the last drops.
        machine.run("ip", "route", "add", "unreachable", "192.0.2.1")
        machine.block(other)
        nobody, nowhere, dropped, outside = ask(
            "postgres://10.78.0.9:5432/", "postgres://192.0.2.1:5432/", "postgres://10.78.0.2:5432/",
            "postgres://[2001:db8::1]:5432/", enter=machine.enter, timeout=5)
        assert (nobody["answer"], nobody["text"]) == ("unreachable", "unreachable: No route to host")
        assert nowhere["answer"] == "unreachable"
        assert (dropped["answer"], dropped["text"]) == ("silent", "no connection in time")
        assert (outside["answer"], outside["text"]) == ("unreachable", "unreachable: Network is unreachable")
        machine.unblock()
        assert ask("postgres://10.78.0.2:5432/", enter=machine.enter)["answer"] == "refused"


@pytest.mark.parametrize("text, beginning", [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no PostgreSQL: it speaks another protocol"),
    (b"SSH-2.0-OpenSSH_9.2p1\r\n", "no PostgreSQL: it speaks another protocol"),
    (b"R", "no PostgreSQL: it hung up in the midst"),
    (b"\x4a\0\0\0\x0a8.0.36\0" + b"x" * 66, "no PostgreSQL: it speaks another protocol"),
    (b"R\x7f\xff\xff\xff" + b"x" * 100, "no PostgreSQL: a length"),
    (b"E\0\0\0\x05\0", "no PostgreSQL: its error"),
])
def test_no_postgresql(ask, fake, text, beginning):
    said = ask(fake(says(text)).url())
    assert said["answer"] == "not-postgresql"
    assert said["text"].startswith(beginning), said


def test_a_server_that_greets_first_is_no_postgresql(ask, fake):
    said = ask(fake(lambda c: (c.sendall(b"220 mail ESMTP\r\n"), c.recv(1000))).url())
    assert said["answer"] == "not-postgresql"


def test_silence(ask, fake):
    began = time.monotonic()
    said = ask(fake(lambda c: time.sleep(10)).url(), timeout=1)
    assert (said["answer"], said["text"]) == ("silent", "connected, but no answer")
    assert time.monotonic() - began < 5
    assert ask(fake(says(b"")).url())["text"] == "connected, but no answer"
    # Half an answer is none.
    assert ask(fake(says(b"R\0\0\0\x08\0", hangs_up=False)).url(), timeout=1)["answer"] == "silent"


@pytest.mark.parametrize("script", [
    endless(b"\0" * 65536), endless(b"N\0\0\0\x05\0" * 10000), endless(REQUEST + b"x" * 60000),
    endless(b"N\0\0\x10\0" + b"x" * 4092), slowly, says(b"E" + b"x" * 100000, hangs_up=False),
], ids=["zeros", "notices", "behind-the-request", "long-notices", "slow", "one-error"])
def test_harm_costs_a_bounded_amount(fake, script):
    # S10
    servers = [fake(script) for _ in range(8)]
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.Popen([asks(), "timeout=2", *(server.url() for server in servers)],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    most_kib = 0
    while done.poll() is None:
        most_kib = max(most_kib, peak_kib(done.pid))
        time.sleep(0.05)
    assert done.returncode == 0 and len(done.stdout.read().splitlines()) == 8
    assert time.monotonic() - began < 15
    assert 0 < most_kib < 16 << 10
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 3


def test_never_two_probes_at_one_server(fake):
    def script(connection):
        connection.recv(1000)
        time.sleep(0.1)
        connection.sendall(REQUEST)
        connection.recv(1)

    server = fake(script)
    # By several names, by several members, beside others and again and again.
    urls = [server.url(), server.url("localhost"), server.url(), server.url().replace("/postgres", "/other"),
            f"postgres://127.0.0.1:{server.port},127.0.0.1:1/x"]
    done = subprocess.run([asks(), "interval=1", "for=4", *urls], capture_output=True, text=True, timeout=60)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert {r["member"] for r in reports if r["health"] == "healthy"} == {f"{n:04}" for n in range(5)}
    assert server.connections >= 6
    assert server.most_at_once == 1


def test_several_hosts_are_asked_in_turn(ask, fake):
    port = free_port()
    server = fake(says(REQUEST))
    said = ask(f"postgres://127.0.0.1:{port},127.0.0.1:{server.port}/x")
    assert (said["answer"], said["target"]) == ("accepting", f"127.0.0.1:{server.port}")
    other = fake(says(b"nonsense!"))
    said = ask(f"postgres://127.0.0.1:{port},127.0.0.1:{other.port}/x")
    assert (said["answer"], said["target"]) == ("not-postgresql", f"127.0.0.1:{other.port}")


def test_the_connection_is_watched_and_left(fake, ask):
    seen = {}

    def script(connection):
        seen["startup"] = connection.recv(1000)
        connection.sendall(REQUEST)
        seen["behind"] = connection.recv(1000)

    ask(fake(script).url(), user="me", database="mine")
    assert seen["startup"][4:8] == b"\0\3\0\0"
    assert seen["startup"][8:] == b"user\0me\0database\0mine\0application_name\0pg-witness\0\0"
    assert seen["behind"] == b""


def test_health_follows_three_tries(fake):
    answers = threading.Event()
    answers.set()

    def script(connection):
        connection.recv(1000)
        if answers.is_set():
            connection.sendall(REQUEST)

    server = fake(script)
    began = time.monotonic()
    process = subprocess.Popen([asks(), "interval=3", "retry_pause=1", "tries=3", "for=25", server.url()],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        def next_report():
            return json.loads(process.stdout.readline()), time.monotonic()
        told, _ = next_report()
        if told["health"] == "unknown":
            told, _ = next_report()
        assert (told["health"], told["tries"]) == ("healthy", 0)
        answers.clear()
        told, suspect = next_report()
        assert (told["health"], told["tries"]) == ("suspect", 1)
        told, unhealthy = next_report()
        assert (told["health"], told["tries"]) == ("unhealthy", 3)
        assert 1.8 < unhealthy - suspect < 4
        answers.set()
        told, _ = next_report()
        assert (told["health"], told["tries"]) == ("healthy", 0)
        assert time.monotonic() - began < 25
    finally:
        process.send_signal(signal.SIGKILL)
        lines = process.stderr.read().splitlines()
        process.wait()
    # One line for each change of health, none for a probe.
    assert len([line for line in lines if "PostgreSQL of" in line]) == 4, lines


def test_a_hundred_silent_servers_are_asked_in_turn(fake, ask):
    quick = fake(says(REQUEST))
    silent = [fake(lambda c: time.sleep(15)) for _ in range(70)]
    began = time.monotonic()
    told = ask(*(server.url() for server in silent), quick.url(), timeout=2)
    assert [r["answer"] for r in told] == ["silent"] * 70 + ["accepting"]
    assert time.monotonic() - began < 20


def test_it_logs_in_only_where_it_may(ask, fake, tmp_path):
    password = tmp_path / "password"
    password.write_text("pass word")
    md5 = b"R\0\0\0\x0c\0\0\0\x05salt"
    heard = []

    def serve(connection):
        connection.recv(1000)
        connection.sendall(md5)
        heard.append(connection.recv(1000))

    server = fake(serve)
    for options in ({"allow": "127.9.9.9/32"}, {"md5": "false"}):
        said = ask(server.url(), password_file=password, **options)
        assert (said["answer"], said["text"]) == ("accepting", "asked for MD5")
        assert said["login"].startswith("failed:"), said
    assert heard == [b"", b""]


def test_what_each_host_has_for_itself_is_not_asked(ask, fake):
    """A `conn_url` may name any host, but nothing that only the witness's own host reaches."""
    heard = []

    def serve(connection):
        heard.append(connection.recv(1000))

    said = ask(fake(serve).url(), allow="192.0.2.0/24")
    assert (said["answer"], said["health"]) == ("no-target", "unknown")
    assert said["text"].startswith("not asked: each host has this address for itself"), said
    assert heard == []
