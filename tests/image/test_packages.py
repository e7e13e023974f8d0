"""The Debian packages and their unit, on a Debian with a running systemd."""

import re
import shutil
import subprocess

import pytest
from debian import CONFIG, STATE, Debian, ServedWitness
from harness import Cluster
from rig.paths import ROOT
from rig.process import await_that
from test_programs import lead_lose_and_return

from kit import deb
from kit.common import Fault, epoch, target_dir, version

pytestmark = [pytest.mark.on_demand, pytest.mark.timeout(1500)]

UNIT = ROOT / "image/systemd/pg-witness.service"
#: What `systemd-analyze security` may say at most; 10 is a service without any guard.
EXPOSURE_MAX = 1.3


@pytest.fixture(scope="module")
def package(made):
    """Of this machine's architecture and this version."""
    (file,) = made("packages", "x86_64").glob("*.deb")
    return file


@pytest.fixture
def debian(engine):
    with Debian(engine, "debian") as running:
        yield running


@pytest.fixture
def cluster(tmp_path, debian, package):
    debian.install(package)
    with Cluster(tmp_path, password="secret") as cluster:
        ServedWitness(cluster, debian)
        yield cluster.start()


def of_version(built, other, folder):
    """The same program as a package of another version."""
    return deb.package(built("x86_64").read_bytes(), "amd64", other, "", epoch(), folder)


def test_unit_is_sound_and_hardened(built, tmp_path):
    """As systemd itself judges it."""
    text = UNIT.read_text().replace("/usr/bin/pg-witness", str(built("x86_64")))
    unit = tmp_path / "pg-witness.service"
    # The manual is another package's on the machine that tests.
    unit.write_text("".join(line for line in text.splitlines(True) if "Documentation=" not in line))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert verified.returncode == 0 and "pg-witness" not in verified.stderr, verified.stderr
    judged = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
                            capture_output=True, text=True, check=True).stdout
    exposure = float(re.search(r"Overall exposure level for pg-witness.service: ([\d.]+)", judged)[1])
    print(f"exposure: {exposure}")
    assert exposure <= EXPOSURE_MAX, judged


@pytest.mark.parametrize("board, architecture", [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7", "armhf")])
def test_lintian_finds_no_error(made, board, architecture):
    (file,) = made("packages", board).glob("*.deb")
    assert file.name == f"pg-witness_{version()}-1_{architecture}.deb"
    done = subprocess.run(["lintian", "--fail-on", "error", "--allow-root", file],
                          capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_who_answers_for_it(tmp_path, monkeypatch):
    def maintainer():
        file = deb.package(b"program", "amd64", "1", "", epoch(), tmp_path)
        return subprocess.run(["dpkg-deb", "--field", file, "Maintainer"], capture_output=True, text=True,
                              check=True).stdout.strip()

    monkeypatch.delenv("PG_WITNESS_MAINTAINER", raising=False)
    assert maintainer().startswith("Unofficial build <")
    monkeypatch.setenv("PG_WITNESS_MAINTAINER", "Jane Doe <jane@example.org>")
    assert maintainer() == "Jane Doe <jane@example.org>"
    for wrong in ("jane@example.org", "Jane <jane>", "Jane <jane@example.org>\nEssential: yes"):
        monkeypatch.setenv("PG_WITNESS_MAINTAINER", wrong)
        with pytest.raises(Fault, match="PG_WITNESS_MAINTAINER"):
            maintainer()


def test_service_votes(cluster):
    lead_lose_and_return(cluster)


def test_life_of_a_package(cluster, debian, built, tmp_path):
    """Upgrade and downgrade of a running voter, removal, return, purge."""
    def voter():
        return "a voter" in debian.journal().rpartition("state found")[2]

    (before,) = debian.unit("MainPID")
    debian("sh", "-c", "echo '# ours' >> /etc/pg-witness/environment")
    debian.install(of_version(built, "99.1", tmp_path))
    cluster.settle()
    assert debian.unit("MainPID") != [before] and voter()
    assert "# ours" in debian("cat", "/etc/pg-witness/environment").stdout
    debian.install(of_version(built, "99.0", tmp_path))
    cluster.settle()
    assert voter()

    debian("dpkg", "--remove", "pg-witness")
    assert debian("systemctl", "is-active", "pg-witness", check=False).stdout.strip() != "active"
    assert "log-a" in debian("ls", f"{STATE}/").stdout.split()
    debian.install(of_version(built, "99.1", tmp_path))
    cluster.settle()
    assert voter()

    debian("dpkg", "--purge", "pg-witness")
    for gone in (STATE, "/var/lib/private/pg-witness", "/etc/pg-witness"):
        assert debian("test", "-e", gone, check=False).returncode == 1, gone
    assert debian("getent", "passwd", "pg-witness", check=False).returncode == 2
    cluster.witness.process = None


def test_downgrade_is_refused_below_the_format_on_disk(cluster, debian, built, tmp_path):
    newer, older = (of_version(built, number, tmp_path) for number in ("99.1", "99.0"))
    debian.install(newer)
    # A state of the format after this one: the number after the magic.
    debian("systemctl", "stop", "pg-witness")
    write_format = (f"printf '\\{int(deb.disk_format()) + 1:03o}' | "
                    f"dd of={STATE}/hard-state bs=1 seek=8 conv=notrunc")
    debian("cp", "-a", f"{STATE}/hard-state", "/root/kept")
    debian("sh", "-c", write_format)
    refused = debian.install(older, check=False)
    assert refused.returncode != 0 and "written" in refused.stderr and "reset" in refused.stderr
    stays = debian("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "pg-witness").stdout
    assert stays == "99.1-1 installed"
    # What was set aside does not count.
    debian("cp", "-a", "/root/kept", f"{STATE}/hard-state")
    debian("mkdir", f"{STATE}/stale-reset")
    debian("sh", "-c", f"cp {STATE}/hard-state {STATE}/stale-reset/ && "
           + write_format.replace("/hard-state", "/stale-reset/hard-state"))
    debian.install(older)


def test_reload_and_refused_configuration(cluster, debian):
    """A reload keeps the process; a configuration that is refused is not tried on."""
    pid = debian.unit("MainPID")
    debian("systemctl", "reload", "pg-witness")
    assert debian.unit("MainPID") == pid
    await_that(lambda: "configuration reloaded" in debian.journal(), 10, debian.journal)

    debian("systemctl", "stop", "pg-witness")
    debian("sh", "-c", f"echo 'raft: {{}}' > {CONFIG}")
    debian("systemctl", "start", "pg-witness", check=False)
    await_that(lambda: debian.unit("ActiveState", "ExecMainStatus") == ["failed", "78"], 20,
               lambda: str(debian.unit("ActiveState", "ExecMainStatus", "NRestarts")))


def test_an_engine_that_stands_still_is_started_again(cluster, debian, tmp_path):
    """`WatchdogSec` is fed while every engine makes progress, and not for longer."""
    debian("systemctl", "stop", "pg-witness")
    # The tests' program can stop its own engines.
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--features", "test-hooks"], cwd=ROOT, check=True)
    hooked = shutil.copy2(target_dir() / "debug/pg-witness", tmp_path)
    debian.put(hooked, "/usr/local/bin/pg-witness-hooks")
    dropin = "/etc/systemd/system/pg-witness.service.d"
    (tmp_path / "hooks.conf").write_text(
        "[Service]\nExecStart=\nExecStart=/usr/local/bin/pg-witness-hooks run /etc/pg-witness/config\n"
        "Environment=PG_WITNESS_STOP_ENGINES_AFTER_MS=5000\nWatchdogSec=8\n")
    debian("mkdir", "-p", dropin)
    debian.put(tmp_path / "hooks.conf", f"{dropin}/hooks.conf")
    debian("systemctl", "daemon-reload")
    debian("systemctl", "start", "pg-witness")
    await_that(lambda: debian.unit("NRestarts") != ["0"], 90, debian.journal)
    assert "Watchdog timeout" in debian.journal()
    cluster.settle()
