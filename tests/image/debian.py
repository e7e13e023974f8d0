"""A Debian 12 with a running systemd, in a container: where the packages and the
unit are tried. It shares this machine's network, so that a cluster reaches it."""

import json
import shutil
import subprocess
import tempfile

from harness import Witness
from rig import witness
from rig.process import await_that

from kit.common import cache

IMAGE = "pg-witness-tests:debian-12"
CONFIG = "/etc/pg-witness/config"
STATE = "/var/lib/pg-witness"


def base():
    """Debian's smallest system with systemd, as a tar; made once."""
    file = cache() / "debian-12-systemd.tar"
    if not file.exists():
        folder = tempfile.mkdtemp(dir=cache())
        try:
            subprocess.run(["debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,adduser",
                            "bookworm", folder], check=True, stdout=subprocess.DEVNULL)
            new = file.with_suffix(".new")
            subprocess.run(["tar", "-C", folder, "-cf", new, "."], check=True)
            new.rename(file)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return file


class Debian:
    """One such machine, running."""

    def __init__(self, engine, name):
        self.engine, self.name = engine, name
        if IMAGE not in engine("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
            engine("import", base(), IMAGE)
        engine("run", "--detach", "--name", name, "--network", "host", "--cgroupns", "host",
               "--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined",
               "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp",
               "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--env", "container=docker",
               IMAGE, "/sbin/init")
        await_that(lambda: self("systemctl", "is-system-running", check=False).stdout.strip()
                   in ("running", "degraded"), 60, "systemd to be up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine("rm", "--force", "--volumes", self.name)

    def __call__(self, *words, check=True):
        return self.engine("exec", self.name, *words, check=check)

    def put(self, file, where):
        self.engine("cp", file, f"{self.name}:{where}")
        return where

    def install(self, deb, check=True):
        """As an administrator does, without a terminal to ask."""
        return self("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install",
                    self.put(deb, f"/root/{deb.name}"), check=check)

    def unit(self, *names):
        """Properties of the service, in order."""
        shown = self("systemctl", "show", "pg-witness", *(f"--property={name}" for name in names)).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines())
        return [values[name] for name in names]

    def journal(self):
        return self("journalctl", "--unit", "pg-witness", "--no-pager", "--output", "cat").stdout


class ServedWitness(Witness):
    """The witness of a cluster, as the package's service."""

    def __init__(self, cluster, debian):
        plain = cluster.witness
        super().__init__(cluster, "served", plain.address, plain.bind, None, "rust", plain.pysyncobj)
        self.debian = debian
        cluster.witness = self
        cluster.members = [self if member is plain else member for member in cluster.members]

    def start(self, password=...):
        password = self.cluster.password if password is ... else password
        file = self.folder / "config"
        witness.configure(file, self.address, self.cluster.partners_of(self), STATE, password, self.bind)
        # A brace in front would be the program's own JSON.
        file.write_text("# As Patroni has it.\n" + file.read_text())
        self.debian.put(file, CONFIG)
        self.debian("chown", "pg-witness:", CONFIG)
        self.debian("systemctl", "start", "pg-witness")
        self.process = Service(self.debian)

    def output(self):
        return self.debian.journal()


class Service:
    """Behaves like a `rig.process.Process`."""

    def __init__(self, debian):
        self.debian = debian

    def pid(self):
        return int(self.debian.unit("MainPID")[0])

    def alive(self):
        return self.debian.unit("ActiveState")[0] == "active"

    @property
    def exit_status(self):
        return json.dumps(self.debian.unit("Result", "ExecMainStatus"))

    def kill(self):
        """The crash of the process; systemd is not to mend it here."""
        self.debian("systemctl", "kill", "--signal=KILL", "pg-witness", check=False)
        self.debian("systemctl", "stop", "pg-witness")

    def terminate(self):
        self.debian("systemctl", "stop", "pg-witness")

    def pause(self):
        self.debian("systemctl", "kill", "--signal=STOP", "pg-witness")

    def resume(self):
        self.debian("systemctl", "kill", "--signal=CONT", "pg-witness")
