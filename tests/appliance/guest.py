"""The witness as the card has it: a machine in qemu, without acceleration, from the
image itself. On qemu's own network its address, for all, is that of the host; on a
wire (`Wire`) it has one of its own."""

import gzip
import json
import shutil
import socket
import subprocess

import pytest
from harness import Cluster, Witness
from rig.process import Process, await_that

#: The host as the guest sees it, and as everybody here calls all three members.
HOST = "10.0.2.2"
#: The greatest address dials.
PORTS = {"a": 2301, "b": 2302, "witness": 2399}
PAGE = 8272

#: Emulated, on a machine that may have other work.
BOOT_LIMIT_S = 240

#: The features of a program whose engines can be stopped, and that has bugs on demand.
BUGGY = "appliance,test-hooks,deliberate-bugs"


def extract(image, name):
    """One file of the boot partition."""
    return subprocess.run(["mcopy", "-n", "-i", f"{image}@@1M", f"::/{name}", "-"],
                          check=True, stdout=subprocess.PIPE).stdout


def command_line(image, *words):
    """The card's own words for the kernel, but for the consoles, which are the board's."""
    given = extract(image, "cmdline.txt").decode().split()
    return " ".join([*words, *(word for word in given if not word.startswith("console="))])


def insert(image, name, content):
    """Replaces one file of the boot partition, as somebody's laptop would."""
    subprocess.run(["mcopy", "-o", "-i", f"{image}@@1M", "-", f"::/{name}"], check=True,
                   input=content.encode())


class Translated:
    """qemu's own network, with a DHCP server: what is dialled at the host's address
    reaches the guest."""

    host = HOST
    guest = HOST
    raft_port = PORTS["witness"]
    netdev = (f"user,id=net,hostfwd=tcp:{HOST}:{PORTS['witness']}-:2222,"
              f"hostfwd=tcp:{HOST}:{PAGE}-:{PAGE}")

    def __init__(self, machine):
        machine.run("ip", "addr", "add", f"{HOST}/32", "dev", "lo")


class Wire:
    """A cable between the guest and the host, without any server on it. Behind the host
    is another network (`FAR`), to be reached through it alone."""

    host, host6 = "10.78.0.1", "fd78::1"
    guest, guest6 = "10.78.0.9", "fd78::9"
    far, far6 = "10.79.0.1", "fd79::1"
    raft_port = 2222
    device = "wire"
    netdev = f"tap,id=net,ifname={device},script=no,downscript=no"

    def __init__(self, machine):
        machine.run("ip", "tuntap", "add", "dev", self.device, "mode", "tap")
        for address, device in ((f"{self.host}/24", self.device), (f"{self.host6}/64", self.device),
                                (f"{self.far}/32", "lo"), (f"{self.far6}/128", "lo")):
            more = ["nodad"] if ":" in address else []
            machine.run("ip", "addr", "add", address, "dev", device, *more)
        machine.run("ip", "link", "set", self.device, "up")


def x86(_image, drive, _folder, words, watchdog=("-device", "i6300esb")):
    """UEFI, and the image as its disk. systemd's stub takes more words for the kernel
    from the firmware's tables."""
    more = f"type=11,value=io.systemd.stub.kernel-cmdline-extra={words}"
    return ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-m", "256",
            "-bios", "/usr/share/ovmf/OVMF.fd",
            "-drive", f"file={drive},format=raw,if=virtio",
            "-device", "virtio-net-pci,netdev=net", *(["-smbios", more] if words else []),
            *watchdog, "-serial", "stdio"]


def intel(*given):
    """The same without a card for it: with the watchdog of Intel's chipset, which qemu
    fuses off unless it is told otherwise."""
    return x86(*given, watchdog=("-global", "ICH9-LPC.noreboot=off"))


def virt(image, drive, folder, words):
    """The Raspberry Pi's kernel and initramfs on qemu's own board."""
    for name in ("kernel8.img", "initramfs"):
        (folder / name).write_bytes(extract(image, name))
    (folder / "kernel").write_bytes(gzip.decompress((folder / "kernel8.img").read_bytes()))
    return ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "256",
            "-kernel", folder / "kernel", "-initrd", folder / "initramfs",
            "-append", command_line(image, "console=ttyAMA0", words),
            "-drive", f"file={drive},format=raw,if=none,id=card",
            "-device", "virtio-blk-device,drive=card",
            "-device", "virtio-net-device,netdev=net",
            "-device", "i6300esb", "-serial", "stdio"]


def raspi3b(image, drive, folder, words):
    """A Raspberry Pi 3 with the image as its card. Its firmware is not emulated, and
    its watchdog resets qemu as soon as it is armed."""
    for name in ("kernel8.img", "initramfs", "bcm2837-rpi-3-b.dtb"):
        (folder / name).write_bytes(extract(image, name))
    (folder / "kernel").write_bytes(gzip.decompress((folder / "kernel8.img").read_bytes()))
    return ["qemu-system-aarch64", "-M", "raspi3b", "-kernel", folder / "kernel",
            "-initrd", folder / "initramfs", "-dtb", folder / "bcm2837-rpi-3-b.dtb",
            "-append", command_line(image, "console=ttyS1,115200", "PG_WITNESS_WATCHDOG=off", words),
            "-drive", f"file={drive},format=raw,if=sd",
            "-device", "usb-net,netdev=net",
            "-serial", "null", "-serial", "stdio"]


BOARDS = {"x86": ("x86", x86), "intel": ("x86", intel), "virt": ("pi", virt), "raspi3b": ("pi", raspi3b)}


def on(*boards, cluster="booted"):
    """The boards that a test's cluster is booted on."""
    return pytest.mark.parametrize(cluster, boards, indirect=True)


class Guest(Witness):
    """The third member, booted. `words` go to the kernel's command line. `drive`: what
    qemu takes in the image's place. `more`: further words for qemu."""

    drive = None
    more = ()

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
        # Before the device that is at its other end.
        argv = board(self.image, self.drive or self.image, self.folder, words)
        self.process = Process(
            [argv[0], "-netdev", self.cluster.link.netdev, *argv[1:], *self.more, "-display", "none",
             "-monitor", f"unix:{self._monitor},server=on,wait=off", *(["-no-reboot"] if once else [])],
            self.log, self.machine)

    @property
    def _monitor(self):
        return self.cluster.folder / "monitor"

    def monitor(self, command):
        """A command for qemu, as one would touch the machine: its cable, its button."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(str(self._monitor))
            prompts = 0
            said = b""
            line.sendall(command.encode() + b"\n")
            while prompts < 2:
                part = line.recv(4096)
                assert part, f"{command}: {said}"
                said += part
                prompts = said.count(b"(qemu) ")

    def await_line(self, text, limit_s=BOOT_LIMIT_S, times=1):
        await_that(lambda: self.output().count(text) >= times, limit_s,
                   lambda: f"the console to say {text!r}; it said:\n{self.output()[-3000:]}")

    def await_status(self):
        return await_that(self.status, BOOT_LIMIT_S, self.cluster.describe)

    def fetch(self, url, *options):
        """What is there, or None."""
        done = self.machine.run("curl", "-s", "-g", "-m", "10", *options, url,
                                check=False, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def page(self, path):
        """What the page's port answers, or None."""
        return self.fetch(f"http://{self.cluster.link.guest}:{PAGE}{path}")

    def notes(self):
        """What the machine has to say."""
        status = self.page("/status.json")
        return json.loads(status)["status"]["watcher"]["notes"] if status else None

    def events(self):
        """What has happened, as the page tells it."""
        return json.loads(self.page("/events.json") or '{"events": []}')["events"]


class BootedCluster(Cluster):
    """Two real data nodes on a machine of their own, and a booted witness."""

    def __init__(self, folder, network, board, image, password=None, link=Translated):
        super().__init__(folder, password=password)
        self.machine = network.machine("host", 1)
        self.link = link(self.machine)
        for node in self.nodes:
            port = PORTS[node.name]
            node.address, node.bind, node.machine = f"{self.link.host}:{port}", f"0.0.0.0:{port}", self.machine
        self.witness = Guest(self, "witness", f"{self.link.guest}:{self.link.raft_port}", None,
                             self.machine, "rust", self.a.pysyncobj)
        self.witness.install(board, image)
        self.members = [*self.nodes, self.witness]

    def settle(self, among=None, limit_s=BOOT_LIMIT_S):
        """With patience for an emulated member."""
        return super().settle(among, limit_s)
