"""The targets, the pinned versions, where things are kept, and how a command is
run."""

import hashlib
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE = ROOT / "image"


class Fault(Exception):
    """What cannot be done, said with its remedy; `main` prints it without a trace."""


@dataclass(frozen=True)
class Target:
    """One kind of board, by the names that it has elsewhere."""

    #: Ours: `image/build NAME`, and in file names.
    name: str
    #: Rust's.
    triple: str
    #: Debian's, for musl and for our own packages; None: no package is made.
    debian: str
    package: str | None
    #: OCI's `architecture[/variant]`; None: it is not in the container image.
    oci: str | None
    #: What runs its programs here.
    runner: tuple = ()


TARGETS = {
    target.name: target
    for target in (
        Target("x86_64", "x86_64-unknown-linux-musl", "amd64", "amd64", "amd64"),
        Target("aarch64", "aarch64-unknown-linux-musl", "arm64", "arm64", "arm64",
               ("qemu-aarch64-static",)),
        Target("armv7", "armv7-unknown-linux-musleabihf", "armhf", "armhf", "arm/v7",
               ("qemu-arm-static",)),
        # Pi 1 and Zero. Debian's armhf is ARMv7, and its code stops on this core.
        Target("armv6", "arm-unknown-linux-musleabi", "armel", None, None,
               ("qemu-arm-static", "-cpu", "arm1176")),
    )
}


def target(name):
    """By our name for it or by Rust's."""
    for known in TARGETS.values():
        if name in (known.name, known.triple):
            return known
    raise Fault(f"there is no target {name}; there are {', '.join(TARGETS)}")


def versions():
    return tomllib.loads((IMAGE / "versions.toml").read_text())


def version():
    """Of pg-witness itself."""
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def commit():
    """The commit that is built, with `-dirty` behind it when it is not quite that; None
    where there is no git."""
    try:
        return output("git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--exclude=*",
                      "--dirty", stderr=subprocess.DEVNULL).strip()
    except Fault:
        return None


def epoch():
    """The time that everything made is given, in seconds: of the commit, or as
    SOURCE_DATE_EPOCH says. A release from a tar without git is of 1980, since zip
    and FAT know nothing before."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    try:
        return int(output("git", "-C", ROOT, "log", "-1", "--format=%ct", stderr=subprocess.DEVNULL))
    except Fault:
        return 315532800


def cache():
    """What is fetched and what std is built into: outside the checkout, so that
    `cargo clean` does not cost ten minutes."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("PG_WITNESS_CACHE") or Path(base) / "pg-witness")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def target_dir():
    """Where cargo puts what it builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()


def registry_remapped(to):
    """Flags of rustc that name the sources of crates the same on all machines. The
    folders exist once `cargo fetch` has been run."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    return [f"--remap-path-prefix={folder}={to}"
            for folder in sorted((home / "registry/src").glob("*/"))]


def say(text):
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)


def run(*argv, **options):
    """Runs a command that must succeed."""
    argv = [str(word) for word in argv]
    try:
        return subprocess.run(argv, check=True, **options)
    except FileNotFoundError:
        raise Fault(f"{argv[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip() if isinstance(error.stderr, str) else ""
        raise Fault(f"`{' '.join(argv)}` failed ({error.returncode})"
                    + (f": {said}" if said else "")) from None


def output(*argv, **options):
    """What a command that must succeed prints."""
    return run(*argv, stdout=subprocess.PIPE, text=True, **options).stdout


def sha256(file):
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(work):
    """Runs a script's `work`; a `Fault` is one line and exit status 1."""
    try:
        work()
    except Fault as fault:
        say(f"error: {fault}")
        sys.exit(1)
