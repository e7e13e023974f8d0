"""The disk images in which the program is PID 1: one SD card for Raspberry Pi 3, 4,
5 and Zero 2 W, and one disk for machines that start by UEFI. Made in plain files,
without root, loop devices or mounts; the same source gives the same bytes.

The layout, on both (MBR):

    1 MiB       boot    FAT32 "PGWITNESS"   kernel, firmware, initramfs, pg-witness.json
    41 MiB      data    ext4 "pgw-data"     the state
    64 MiB      the end of the image

What the card has behind the image stays unused, and with it two entries of its
partition table: room for a second boot partition. The data partition never grows;
the state of a cluster takes two megabytes."""

import fcntl
import functools
import gzip
import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import cpio
from .common import IMAGE, Fault, cache, output, run, versions
from .debian import pinned, unpack

BOOT_MIB = 40
DATA_MIB = 23

#: The owner of the data partition's root; src/appliance/mounts.rs has the same.
WITNESS = 1000

#: 2026-01-01, for every time stamp inside.
EPOCH = "1767225600"

ENVIRONMENT = {"SOURCE_DATE_EPOCH": EPOCH, "E2FSPROGS_FAKE_TIME": EPOCH, "TZ": "UTC",
               "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C"}

TOOLS = {"sfdisk": "fdisk", "mkfs.vfat": "dosfstools", "mcopy": "mtools",
         "mke2fs": "e2fsprogs", "depmod": "kmod", "objcopy": "binutils",
         "dpkg-deb": "dpkg"}

USB_ETHERNET = "cdc_ether cdc_ncm asix ax88179_178a r8152"

#: The boards' modules: a word of the device tree's `compatible` (`*`: every
#: machine), and what is loaded there, with options behind a colon. What a module
#: needs comes before it by itself. Drivers of network chips' transceivers come
#: first: the kernel looks for them once, when it finds the chip.
PI_MODULES = [
    ("*", "nls_ascii nls_cp437 vfat ext4 evdev gpio_keys"),
    ("brcm,bcm2837", "bcm2835_wdt:heartbeat=15 sdhci-iproc bcm2835 phy-generic dwc2 "
                     f"smsc smsc95xx microchip lan78xx {USB_ETHERNET}"),
    ("brcm,bcm2711", "bcm2835_wdt:heartbeat=15 sdhci-iproc bcm-phy-lib broadcom "
                     "mdio-bcm-unimac genet reset-raspberrypi"),
    ("brcm,bcm2712", "bcm2835_wdt:heartbeat=15 irq-bcm2712-mip pinctrl-brcmstb-bcm2712 "
                     "gpio-brcmstb sdhci-brcmstb gpio-regulator clk-rp1 pinctrl-rp1 rp1_pci "
                     "bcm-phy-lib broadcom macb"),
    # qemu's, for the tests.
    ("linux,dummy-virt", "virtio_mmio virtio_blk virtio_net i6300esb:heartbeat=15"),
]

X86_MODULES = [
    # ext4 asks for crc32c by the name of an algorithm, which is no dependency.
    ("*", "nls_ascii nls_cp437 vfat crc32c_generic ext4 button evdev "
          # In Intel's chipsets the watchdog is a part of the bridge or of the SMBus,
          # whose drivers make the device; newer boards describe theirs by ACPI. Where
          # the firmware ignores the first expiry of iTCO, the second resets.
          "lpc_ich i2c-i801 wdat_wdt:timeout=15 "
          "i6300esb:heartbeat=15 iTCO_wdt:heartbeat=10 sp5100_tco:heartbeat=15 "
          "ahci sd_mod nvme mmc_block sdhci-pci sdhci-acpi xhci-pci ehci-pci usb-storage uas "
          "virtio_blk virtio_scsi virtio_net hv_storvsc hv_netvsc vmxnet3 "
          f"realtek r8169 e1000 e1000e igb igc tg3 {USB_ETHERNET} usbhid hid-generic"),
]

PI_TREES = """bcm2837-rpi-3-b bcm2837-rpi-3-b-plus bcm2837-rpi-3-a-plus bcm2837-rpi-cm3-io3
    bcm2837-rpi-zero-2-w bcm2711-rpi-4-b bcm2711-rpi-400 bcm2711-rpi-cm4-io
    bcm2712-rpi-5-b bcm2712-d-rpi-5-b""".split()

PI_FIRMWARE = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"]

PI_CONFIG = """\
arm_64bit=1
kernel=kernel8.img
initramfs initramfs followkernel
upstream_kernel=1
os_check=0
enable_uart=1
disable_splash=1
boot_delay=0
"""

#: The screen, the serial line of a Pi 5, and that of the others, which qemu has too.
PI_CONSOLES = "console=tty0 console=ttyAMA10,115200 console=ttyS1,115200"

#: With huge pages the kernel would keep a twentieth of the memory free for them.
COMMAND_LINE = "panic=10 loglevel=4 transparent_hugepage=never rdinit=/init"


@dataclass(frozen=True)
class Kernel:
    """A kernel of Debian's, unpacked."""

    release: str
    folder: Path

    @property
    def modules(self):
        return self.folder / "usr/lib/modules" / self.release


def check_tools():
    missing = [package for tool, package in TOOLS.items()
               if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        raise Fault(f"install these packages: {' '.join(missing)}")


def fetched(arch, *packages):
    """Pinned packages, unpacked into one folder that is kept."""
    debs = [pinned(package, arch) for package in packages]
    folder = cache() / "unpacked" / debs[0].stem
    if not folder.exists():
        stage = folder.with_name(f"{folder.name}.{os.getpid()}")
        stage.mkdir(parents=True)
        for deb in debs:
            unpack(deb, stage)
        stage.rename(folder)
    return folder


def kernel(release, arch, *packages):
    found = Kernel(release, fetched(arch, *packages))
    if not (found.modules / "modules.dep").exists():
        tool = shutil.which("depmod") or "/sbin/depmod"
        # kmod looks for lib/modules; Debian's packages have usr/lib/modules.
        run(tool, "-b", found.folder / "usr", release)
    return found


def order(source, boards):
    """The modules' files in the order of loading, as (board, file, options)."""
    needs = {}
    for line in (source.modules / "modules.dep").read_text().splitlines():
        file, _, before = line.partition(":")
        needs[file] = before.split()
    plain = {Path(file).name.split(".")[0].replace("-", "_"): file for file in needs}
    builtin = {Path(line).stem.replace("-", "_")
               for line in (source.modules / "modules.builtin").read_text().split()}
    steps = []
    for board, words in boards:
        for word in words.split():
            name, _, options = word.partition(":")
            name = name.replace("-", "_")
            if name in builtin:
                continue
            if name not in plain:
                raise Fault(f"{source.release} has no module {name}; see image/kit/card.py")
            file = plain[name]
            steps += [(board, before, "") for before in reversed(needs[file])]
            steps.append((board, file, options))
    return list(dict.fromkeys(steps))


def initramfs(program, source, boards):
    """The root file system: the program, the modules it loads, and the empty data
    partition, from which a damaged one is recreated."""
    archive = cpio.Archive()
    for folder in ("dev", "proc", "sys", "run", "boot", "data", "etc", "tmp", "lib",
                   "lib/modules"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    archive.file("init", program.read_bytes(), 0o755)
    archive.file("lib/pgw-data.gz", gzip.compress(data_partition(), 9, mtime=0))
    steps = order(source, boards)
    lines = [f"{board} {Path(file).name} {options}".rstrip() for board, file, options in steps]
    archive.file("lib/modules/order", "".join(f"{line}\n" for line in lines).encode())
    for file in sorted({file for _, file, _ in steps}):
        archive.file(f"lib/modules/{Path(file).name}", (source.modules / file).read_bytes())
    return gzip.compress(archive.close(), 9, mtime=0)


def environment():
    """For the tools of file systems: what they make depends on nothing here."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return {**os.environ, **ENVIRONMENT, "PATH": path}


@functools.cache
def data_partition():
    """The bytes of the data partition, empty."""
    number = "50475749-0000-4000-8000-00000000000"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "data")
        run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "pgw-data", "-U", f"{number}1", "-m", "0",
            "-E", f"hash_seed={number}2,root_owner={WITNESS}:{WITNESS},lazy_itable_init=0,"
                  f"lazy_journal_init=0",
            "-J", "size=4", file, f"{DATA_MIB}M", env=environment(), stdout=subprocess.DEVNULL)
        return file.read_bytes().ljust(DATA_MIB << 20, b"\0")


def pi_files(program):
    """What the boot partition of a Raspberry Pi holds."""
    release = versions()["kernel"]["arm64"]
    source = kernel(release, "arm64", f"linux-binary-{release}", f"linux-modules-{release}",
                    f"linux-base-{release}")
    firmware = fetched("arm64", "raspi-firmware") / "usr/lib/raspi-firmware"
    files = {name: (firmware / name).read_bytes() for name in PI_FIRMWARE}
    for tree in PI_TREES:
        file = source.modules / "dtb/broadcom" / f"{tree}.dtb"
        if file.exists():
            files[file.name] = file.read_bytes()
    files["kernel8.img"] = gzip.compress((source.modules / "vmlinuz").read_bytes(), 9, mtime=0)
    files["initramfs"] = initramfs(program, source, PI_MODULES)
    files["config.txt"] = PI_CONFIG.encode()
    files["cmdline.txt"] = f"{PI_CONSOLES} {COMMAND_LINE}\n".encode()
    return files


def x86_files(program):
    """What the boot partition of a UEFI machine holds: kernel, command line and
    initramfs in one program that the firmware starts."""
    release = versions()["kernel"]["amd64"]
    source = kernel(release, "amd64", f"linux-image-{release}")
    stub = (fetched("amd64", "systemd-boot-efi") /
            "usr/lib/systemd/boot/efi/linuxx64.efi.stub")
    sections = {
        ".osrel": b"ID=pg-witness\nPRETTY_NAME=pg-witness\n",
        ".cmdline": f"console=tty0 console=ttyS0 {COMMAND_LINE}".encode(),
        ".initrd": initramfs(program, source, X86_MODULES),
        ".linux": (source.folder / f"boot/vmlinuz-{release}").read_bytes(),
    }
    return {"EFI/BOOT/BOOTX64.EFI": unified(stub, sections)}


def unified(stub, sections):
    """systemd's stub with these sections behind its own."""
    headers = output("objdump", "-h", stub)
    base = next(int(line.split()[1], 16) for line in output("objdump", "-p", stub).splitlines()
                if line.startswith("ImageBase"))
    end = 0
    for line in headers.splitlines():
        words = line.split()
        if len(words) >= 7 and words[0].isdigit():
            end = max(end, int(words[2], 16) + int(words[3], 16))
    address = max(end, base)
    with tempfile.TemporaryDirectory() as folder:
        command = ["objcopy"]
        for name, data in sections.items():
            file = Path(folder, name)
            file.write_bytes(data)
            address = -(-address // 0x1000) * 0x1000
            command += ["--add-section", f"{name}={file}",
                        "--set-section-flags", f"{name}=readonly,data,alloc,load",
                        "--change-section-vma", f"{name}={address:#x}"]
            address += len(data)
        result = Path(folder, "result.efi")
        run(*command, stub, result)
        return timeless(result.read_bytes())


def timeless(program):
    """A PE program without the time at which objcopy wrote it, nor the checksum over
    that, which firmware does not look at."""
    program = bytearray(program)
    head, = struct.unpack_from("<I", program, 0x3c)
    struct.pack_into("<I", program, head + 8, int(EPOCH))
    struct.pack_into("<I", program, head + 88, 0)
    return bytes(program)


def image(out, files, kind):
    """Writes a disk image: `kind` is the boot partition's type."""
    mib = 1 << 20
    out.unlink(missing_ok=True)
    with open(out, "wb") as stream:
        stream.truncate((1 + BOOT_MIB + DATA_MIB) * mib)
    table = ("label: dos\nlabel-id: 0x50475749\nunit: sectors\n"
             f"start=2048, size={BOOT_MIB * 2048}, type={kind}, bootable\n"
             f"start={(1 + BOOT_MIB) * 2048}, size={DATA_MIB * 2048}, type=83\n")
    quiet = {"env": environment(), "stdout": subprocess.DEVNULL}
    run("sfdisk", "-q", out, input=table, text=True, **quiet)
    # One sector a cluster, or forty megabytes were too few for FAT32.
    run("mkfs.vfat", "-F", "32", "-s", "1", "-n", "PGWITNESS", "--invariant",
        "--offset=2048", out, BOOT_MIB * 1024, stderr=subprocess.DEVNULL, **quiet)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in sorted(files.items()):
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        for path in sorted(Path(folder).rglob("*")):
            name = path.relative_to(folder)
            os.utime(path, (int(EPOCH), int(EPOCH)))
            if path.is_dir():
                run("mmd", "-i", f"{out}@@1M", f"::/{name}", **quiet)
            else:
                run("mcopy", "-m", "-i", f"{out}@@1M", path, f"::/{name}", **quiet)
    with open(out, "r+b") as stream:
        stream.seek((1 + BOOT_MIB) * mib)
        stream.write(data_partition())


def build(name, program, out):
    """One image: `pi` or `x86`."""
    check_tools()
    files, kind = {"pi": (pi_files, "c"), "x86": (x86_files, "ef")}[name]
    # What is fetched and unpacked there is everybody's.
    with open(cache() / "cards.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = files(program)
    for file in ("pg-witness.json", "pg-witness.example.txt"):
        content[file] = (IMAGE / "card" / file).read_bytes()
    image(out, content, kind)
