"""The witness as the card has it: a machine in qemu, without acceleration, from the
image itself. Its address, for all, is that of the host on qemu's own network."""

import gzip
import json
import shutil
import subprocess

from harness import Cluster, Witness
from rig.process import Process, await_that

#: The host as the guest sees it, and as everybody here calls all three members.
HOST = "10.0.2.2"
#: The greatest address dials.
PORTS = {"a": 2301, "b": 2302, "witness": 2399}
PAGE = 8010

#: Emulated, on a machine that may have other work.
BOOT_LIMIT_S = 240

COMMAND_LINE = "panic=10 loglevel=4 rdinit=/init"


def extract(image, name):
    """One file of the boot partition."""
    return subprocess.run(["mcopy", "-n", "-i", f"{image}@@1M", f"::/{name}", "-"],
                          check=True, stdout=subprocess.PIPE).stdout


def insert(image, name, content):
    """Replaces one file of the boot partition, as somebody's laptop would."""
    subprocess.run(["mcopy", "-o", "-i", f"{image}@@1M", "-", f"::/{name}"], check=True,
                   input=content.encode())


def network():
    forwards = (f"hostfwd=tcp:{HOST}:{PORTS['witness']}-:2222,"
                f"hostfwd=tcp:{HOST}:{PAGE}-:8010")
    return f"user,id=net,{forwards}"


def x86(_image, drive, _folder, _words):
    """UEFI, and the image as its disk."""
    return ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-m", "256",
            "-bios", "/usr/share/ovmf/OVMF.fd",
            "-drive", f"file={drive},format=raw,if=virtio",
            "-netdev", network(), "-device", "virtio-net-pci,netdev=net",
            "-device", "i6300esb", "-serial", "stdio"]


def virt(image, drive, folder, words):
    """The Raspberry Pi's kernel and initramfs on qemu's own board."""
    for name in ("kernel8.img", "initramfs"):
        (folder / name).write_bytes(extract(image, name))
    (folder / "kernel").write_bytes(gzip.decompress((folder / "kernel8.img").read_bytes()))
    return ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "256",
            "-kernel", folder / "kernel", "-initrd", folder / "initramfs",
            "-append", f"console=ttyAMA0 {COMMAND_LINE} {words}",
            "-drive", f"file={drive},format=raw,if=none,id=card",
            "-device", "virtio-blk-device,drive=card",
            "-netdev", network(), "-device", "virtio-net-device,netdev=net",
            "-device", "i6300esb", "-serial", "stdio"]


def raspi3b(image, drive, folder, words):
    """A Raspberry Pi 3 with the image as its card. Its firmware is not emulated, and
    its watchdog resets qemu as soon as it is armed."""
    for name in ("kernel8.img", "initramfs", "bcm2837-rpi-3-b.dtb"):
        (folder / name).write_bytes(extract(image, name))
    (folder / "kernel").write_bytes(gzip.decompress((folder / "kernel8.img").read_bytes()))
    return ["qemu-system-aarch64", "-M", "raspi3b", "-kernel", folder / "kernel",
            "-initrd", folder / "initramfs", "-dtb", folder / "bcm2837-rpi-3-b.dtb",
            "-append", f"console=ttyS1,115200 {COMMAND_LINE} PG_WITNESS_WATCHDOG=off {words}",
            "-drive", f"file={drive},format=raw,if=sd",
            "-netdev", network(), "-device", "usb-net,netdev=net",
            "-serial", "null", "-serial", "stdio"]


BOARDS = {"x86": ("x86", x86), "virt": ("pi", virt), "raspi3b": ("pi", raspi3b)}


class Guest(Witness):
    """The third member, booted. `words` go to the kernel's command line. `drive`: what
    qemu takes in the image's place."""

    drive = None

    def install(self, board, image):
        self.board = board
        self.image = self.folder / "card.img"
        shutil.copyfile(image, self.image)

    def configure(self, **more):
        """Writes `pg-witness.json` on the card."""
        cluster = {"name": "main", "self_addr": self.address, "bind_addr": "0.0.0.0:2222",
                   "partner_addrs": self.cluster.partners_of(self)}
        if self.cluster.password:
            cluster["password"] = self.cluster.password
        insert(self.image, "pg-witness.json", json.dumps({"clusters": [cluster], **more}))

    def start(self, words="", once=False):
        _, board = BOARDS[self.board]
        drive = self.drive or self.image
        argv = [*board(self.image, drive, self.folder, words), "-display", "none", "-monitor", "none"]
        self.process = Process([*argv, *(["-no-reboot"] if once else [])], self.log, self.machine)

    def await_line(self, text, limit_s=BOOT_LIMIT_S, times=1):
        await_that(lambda: self.output().count(text) >= times, limit_s,
                   f"the console to say {text!r}; it said:\n{self.output()[-3000:]}")

    def page(self, path):
        """What the page's port answers, or None."""
        done = self.machine.run("curl", "-s", "-m", "10", f"http://{HOST}:{PAGE}{path}",
                                check=False, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def notes(self):
        """What the machine has to say."""
        status = self.page("/status.json")
        return json.loads(status)["status"]["watcher"]["notes"] if status else None


class BootedCluster(Cluster):
    """Two real data nodes on a machine of their own, and a booted witness."""

    def __init__(self, folder, network, board, image, password=None):
        super().__init__(folder, password=password)
        self.machine = network.machine("host", 1)
        self.machine.run("ip", "addr", "add", f"{HOST}/32", "dev", "lo")
        for node in self.nodes:
            port = PORTS[node.name]
            node.address, node.bind, node.machine = f"{HOST}:{port}", f"0.0.0.0:{port}", self.machine
        self.witness = Guest(self, "witness", f"{HOST}:{PORTS['witness']}", None, self.machine,
                             "rust", self.a.pysyncobj)
        self.witness.install(board, image)
        self.members = [*self.nodes, self.witness]
