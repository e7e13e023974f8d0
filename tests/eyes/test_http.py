"""What the HTTP tells, to whom, and what it does not."""

import json
import re
import subprocess

import pytest
from eyes import view
from rig import paths
from rig.process import await_that

SECRETS = ("secret", "rewinder", "replicator")


@pytest.fixture(scope="module")
def machine(stereo):
    stereo.await_well()
    machine = stereo.witness.machine
    await_that(lambda: view.command(machine, "status").returncode == 0, 60,
               lambda: view.command(machine, "status").stdout)
    return machine


def test_the_keys_are_those_that_were_promised(machine):
    _, _, body = view.http(machine, "/topology.json")
    assert set(json.loads(body)["topology"]) == {"watcher", "postgresql-endpoints", "raft-status"}
    code, _, body = view.http(machine, "/health-check", "POST")
    checked = json.loads(body)
    assert code == 200 and set(checked) == {"endpoints", "healthy-count", "total-count", "success"}
    assert checked["healthy-count"] == checked["total-count"] == 2
    _, _, body = view.http(machine, "/status.json")
    assert set(json.loads(body)) == {"success", "status"}
    # On a busy machine Patroni's loop may be late for a moment.
    await_that(lambda: view.http(machine, "/status.json")[1]["pg-witness-failover"] == "yes", 30,
               lambda: view.http(machine, "/status.json")[2])


def test_alive_and_ready(machine, stereo):
    assert view.http(machine, "/livez")[0] == view.http(machine, "/readyz")[0] == 200
    assert view.command(machine, "alive").returncode == 0
    for node in stereo.nodes.values():
        machine.block(node.machine)
    try:
        code, _, why = await_that(
            lambda: (answer := view.http(machine, "/readyz"))[0] == 503 and answer, 60,
            "the witness to be cut off")
        assert code == 503 and "stereo: " in why
        assert view.http(machine, "/livez")[0] == 200
        done = view.command(machine, "status")
        assert done.returncode == 4 and "Unknown" in done.stdout, done.stdout
    finally:
        machine.unblock()
    await_that(lambda: view.http(machine, "/readyz")[0] == 200, 60, "the witness to be back")
    # Its probes come round later than its Raft.
    await_that(lambda: view.command(machine, "status").returncode == 0, 60, "it to see all well")


def test_metrics_are_open_metrics(machine):
    _, headers, body = await_that(
        lambda: (told := view.http(machine, "/metrics"))
        and 'failover_possible{cluster="stereo"} 1' in told[2] and told, 30,
        lambda: view.http(machine, "/metrics")[2])
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    parse = """
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = list(parse(sys.stdin.read()))
print(json.dumps([[f.name for f in families],
                  {s.name: [s.labels, s.value] for f in families for s in f.samples}]))
"""
    done = subprocess.run([paths.VENVS / "eyes/bin/python", "-c", parse], input=body, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    declared, samples = json.loads(done.stdout)
    assert samples["pg_witness_failover_possible"] == [{"cluster": "stereo"}, 1.0]
    assert samples["pg_witness_raft_voter"][1] == 1.0
    assert {"pg_witness_postgresql_accepting", "pg_witness_patroni_leader_key_expires_seconds",
            "pg_witness_disk_written_bytes_total", "process_cpu_seconds_total"} <= set(samples)
    # What alerts and dashboard ask for is there, if only as a family without a sample now:
    # a witness that votes has no reason why it does not.
    wanted = set()
    for file in (paths.ROOT / "image/monitoring").iterdir():
        wanted |= set(re.findall(r"\b(?:pg_witness|process)_[a-z_]+", file.read_text()))
    there = set(declared) | set(samples)
    absent = {name for name in wanted - there if not name.startswith("pg_witness_alerts")}
    assert not absent, absent


def test_the_alert_rules_are_rules(tmp_path):
    promtool = paths.VENVS.parent / "tools/promtool"
    done = subprocess.run([promtool, "check", "rules", paths.ROOT / "image/monitoring/alerts.yml"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    json.loads((paths.ROOT / "image/monitoring/dashboard.json").read_text())


def test_no_answer_holds_a_secret(machine, stereo, tmp_path):
    bundle = tmp_path / "bundle.txt"
    done = view.command(machine, "diagnose", "-c", str(stereo.witness.config), str(bundle))
    assert done.returncode == 0, done.stderr
    assert bundle.stat().st_mode & 0o777 == 0o600
    texts = {"bundle": bundle.read_text()}
    assert "==== /status.json" in texts["bundle"] and "cluster stereo" in texts["bundle"]
    for path in ("/", "/status.json", "/status.txt", "/topology.json", "/topology.txt",
                 "/members.json", "/members.txt", "/metrics", "/events.json", "/diagnose.txt", "/readyz",
                 "/nothing"):
        texts[path] = str(view.http(machine, path))
    for path, text in texts.items():
        if path == "/":
            continue
        for secret in SECRETS:
            assert secret not in text, f"{secret} in {path}"


def test_another_site_gets_nothing(machine):
    assert view.http(machine, "/status.json", headers={"Host": "evil.example"})[0] == 421
    assert view.http(machine, "/health-check")[0] == 405
    foreign = {"Origin": "http://evil.example"}
    assert view.http(machine, "/health-check", "POST", headers=foreign)[0] == 403
    code, headers, _ = view.http(machine, "/")
    assert code == 200 and "default-src 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


_SLOW = """
import socket, time, sys
def ask(path):
    with socket.create_connection(("127.0.0.1", 8272), timeout=5) as s:
        s.sendall(b"GET " + path + b" HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        return s.recv(12)
slow = []
for _ in range(200):
    s = socket.create_connection(("127.0.0.1", 8272))
    s.sendall(b"GET / HTTP/1.1\\r\\nX: ")
    slow.append(s)
    if len(slow) % 20 == 0:
        # S16: whoever says nothing does not make the health checks fail.
        assert ask(b"/livez") == b"HTTP/1.1 200", len(slow)
        assert ask(b"/readyz").startswith(b"HTTP/1.1"), len(slow)
began = time.monotonic()
for s in slow:
    s.settimeout(20)
    try:
        assert s.recv(1) == b""
    except ConnectionResetError:
        pass
print(time.monotonic() - began)
"""


def test_slow_clients_are_let_go_and_the_vote_goes_on(machine, stereo):
    before = stereo.ask(stereo.witness, "status")["commit_idx"]
    done = machine.run(paths.python(), "-c", _SLOW, capture_output=True, text=True, check=False,
                       timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 12
    assert view.http(machine, "/livez")[0] == 200
    await_that(lambda: stereo.ask(stereo.witness, "status")["commit_idx"] > before, 20, "a commit")


def test_it_stays_small(stereo, machine):
    """With the page's polling, metrics and the probe on."""
    for _ in range(30):
        for path in ("/", "/status.json", "/metrics", "/events.json"):
            assert view.http(machine, path)[0] == 200
    rss = stereo.witness.program.process.rss_kib()
    print(f"resident memory: {rss} KiB")
    # A debug build is larger; the release build's figure is in the README.
    assert rss < (6 * 1024 if "release" in paths.pg_witness() else 40 * 1024)
