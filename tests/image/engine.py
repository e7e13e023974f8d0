"""Docker's daemon with its data in a folder of its own, and a witness in one of its
containers, which to a cluster is a member like any other."""

import json
import os
import subprocess

from harness import Witness
from rig.paths import ROOT
from rig.ports import free_port
from rig.process import Process, await_that

#: As hard as a container can be held.
HELD = ("--network", "host", "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", "--memory", "64m", "--pids-limit", "16")


class Engine:
    def __init__(self, folder):
        self.folder = folder
        self.socket = folder / "sock"
        self.daemon = None

    def __enter__(self):
        self.daemon = Process(
            ["dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec",
             "--pidfile", self.folder / "pid", "--host", f"unix://{self.socket}",
             "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"],
            self.folder / "log")
        try:
            await_that(lambda: self("info", check=False).returncode == 0, 60,
                       lambda: "dockerd:\n" + (self.folder / "log").read_text()[-3000:])
        except BaseException:
            self.daemon.kill()
            raise
        return self

    def __exit__(self, *_):
        names = self("ps", "--all", "--quiet").stdout.split()
        if names:
            self("rm", "--force", *names)
        self.daemon.terminate(limit_s=30)
        # The daemon leaves this behind, and with it nobody could remove the folder.
        subprocess.run(["umount", "--quiet", self.folder / "exec/netns/default"], check=False)

    def __call__(self, *words, check=True):
        """Runs `docker` on it; its output is in `.stdout` and `.stderr`."""
        done = subprocess.run(["docker", "--host", f"unix://{self.socket}", *map(str, words)],
                              capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"docker {words}: {done.stderr}"
        return done

    def load(self, archive):
        """The names that the images in the archive got."""
        lines = self("load", "--input", archive).stdout.splitlines()
        return [line.removeprefix("Loaded image: ") for line in lines]


class Container:
    """One that is there. Behaves like a `rig.process.Process`."""

    def __init__(self, engine, name):
        self.engine, self.name = engine, name

    def health(self):
        """What the image's own check says: `starting`, `healthy` or `unhealthy`."""
        return self.state().get("Health", {}).get("Status")

    def state(self):
        told = self.engine("inspect", self.name, "--format", "{{json .State}}", check=False)
        return json.loads(told.stdout) if told.returncode == 0 else {}

    def alive(self):
        return self.state().get("Running", False)

    @property
    def exit_status(self):
        return self.state().get("ExitCode")

    def output(self):
        told = self.engine("logs", self.name, check=False)
        return told.stdout + told.stderr

    def terminate(self):
        """As `docker stop`, whose patience is 10 s. Returns the exit status."""
        self.engine("stop", self.name)
        status = self.exit_status
        self.engine("rm", self.name)
        return status

    def kill(self):
        self.engine("rm", "--force", self.name)

    def pause(self):
        self.engine("pause", self.name)

    def resume(self):
        self.engine("unpause", self.name)


class ContainedWitness(Witness):
    """The witness of a cluster, in a container that is configured by its environment."""

    def __init__(self, cluster, engine, image):
        plain = cluster.witness
        super().__init__(cluster, "contained", plain.address, plain.bind, None, "rust", plain.pysyncobj)
        self.engine, self.image = engine, image
        # Its own: the usual port may be that of another witness on this machine.
        self.http = f"127.0.0.1:{free_port()}"
        cluster.witness = self
        cluster.members = [self if member is plain else member for member in cluster.members]

    def start(self, password=...):
        password = self.cluster.password if password is ... else password
        self.process = self.run({
            "PATRONI_RAFT_SELF_ADDR": self.address,
            "PATRONI_RAFT_BIND_ADDR": self.bind,
            "PATRONI_RAFT_DATA_DIR": "/var/lib/pg-witness",
            "PATRONI_RAFT_PARTNER_ADDRS": ",".join(self.cluster.partners_of(self)),
            "PG_WITNESS_HTTP_LISTEN": self.http,
            **({"PATRONI_RAFT_PASSWORD": password} if password else {}),
        })

    def run(self, environment):
        given = [word for item in environment.items() for word in ("--env", "=".join(item))]
        # Asked more often than the image says, for the sake of time.
        self.engine("run", "--detach", "--name", self.name, "--health-interval", "1s",
                    "--volume", f"{self.name}:/var/lib/pg-witness", *HELD, *given, self.image)
        return Container(self.engine, self.name)

    def output(self):
        return self.process.output() if self.process else ""


class ComposedWitness(ContainedWitness):
    """The same by the Compose file, which is given what it asks for and no more."""

    def run(self, environment):
        self.compose("up", "--detach", environment=environment)
        return Container(self.engine, self.engine("ps", "--format", "{{.Names}}").stdout.strip())

    def compose(self, *words, environment):
        asked = ("PATRONI_RAFT_SELF_ADDR", "PATRONI_RAFT_PARTNER_ADDRS", "PATRONI_RAFT_PASSWORD")
        subprocess.run(
            ["docker-compose", "--project-name", "composed", "--file", ROOT / "image/compose.yml", *words],
            env={**os.environ, "DOCKER_HOST": f"unix://{self.engine.socket}", "PG_WITNESS_IMAGE": self.image,
                 **{name: environment[name] for name in asked if name in environment}},
            check=True, capture_output=True, text=True, timeout=120)
