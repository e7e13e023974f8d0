"""Building the static program, and looking at what came out."""

import contextlib
import fcntl
import os
import shutil

from . import elf
from .common import ROOT, Fault, registry_remapped, run, target_dir
from .sysroot import ensure, installed

#: What a program may have at most.
BYTES_MAX = 2_800_000

#: Nobody unwinds a stripped program whose panics abort.
NO_TABLES = "-Cforce-unwind-tables=no"
#: The relocations of its own that a static-pie carries fit into a tenth. LLVM's
#: linker knows how; that of cross's images is GNU's.
PACKED = "-Clink-arg=--pack-dyn-relocs=relr"


def build(targets, cross=False, features="", pinned=False, config=()):
    """Builds for all the targets. Returns the programs by the targets' names.

    `pinned`: with std as `versions.toml` has it, even where rustup has the targets.
    With `features` they stand in a folder of their own, and are not measured by
    what the program without them may have; the crates are the same. `config`: words
    for cargo's `--config`."""
    if cross:
        environment = {"CROSS_CONFIG": str(ROOT / "cross.toml"),
                       "CARGO_ENCODED_RUSTFLAGS": NO_TABLES, **os.environ}
        for target in targets:
            run("cross", "build", "--release", "--locked", "--target", target.triple,
                cwd=ROOT, env=environment)
    else:
        environment = prepare(targets, (NO_TABLES, PACKED), pinned)
        triples = [word for target in targets for word in ("--target", target.triple)]
        settings = [word for setting in config for word in ("--config", setting)]
        with alone(), contextlib.ExitStack() as plain:
            if features:
                for target in targets:
                    plain.enter_context(kept(built(target)))
            run("cargo", "build", "--release", "--locked", "--features", features,
                "--target-dir", target_dir(), *triples, *settings, cwd=ROOT, env=environment)
            if features:
                return {target.name: set_apart(target, features) for target in targets}
    return {target.name: program(target) for target in targets}


@contextlib.contextmanager
def alone():
    """Cargo leaves every program in the same place: until it is taken from there no
    other may be built."""
    target_dir().mkdir(parents=True, exist_ok=True)
    with open(target_dir() / "image.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def kept(file):
    """Puts a file back where it was, or leaves none where there was none."""
    aside = file.with_name(f"{file.name}.kept")
    if file.exists():
        file.rename(aside)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        if aside.exists():
            aside.rename(file)


def set_apart(target, features):
    """Copies what was built away from where the program without features is."""
    folder = target_dir() / "with" / features
    folder.mkdir(parents=True, exist_ok=True)
    fresh = shutil.copy2(built(target), folder / f"pg-witness-{target.name}.new")
    return fresh.replace(folder / f"pg-witness-{target.name}")


def built(target):
    """Where cargo leaves the program."""
    return target_dir() / target.triple / "release/pg-witness"


def prepare(targets, more=(), pinned=False):
    """An environment in which cargo builds for these targets, the same bytes
    wherever its folders are."""
    environment = dict(os.environ)
    if pinned or not all(installed(target.triple) for target in targets):
        environment["RUSTC"] = str(ensure(targets))
    run("cargo", "fetch", "--locked", "--quiet", cwd=ROOT)
    flags = [f"--remap-path-prefix={ROOT}=/pg-witness", *registry_remapped("/crates"), *more]
    environment["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(flags)
    return environment


def program(target):
    """The file that was built, once it is known to be what was promised."""
    file = built(target)
    found = elf.read(file)
    size = file.stat().st_size
    wrong = [what for holds, what in (
        (found.static, "it is not static"),
        (found.stripped, "it is not stripped"),
        (size <= BYTES_MAX, f"it has {size} bytes, more than {BYTES_MAX}"),
    ) if not holds]
    if wrong:
        raise Fault(f"{file}: {'; '.join(wrong)}")
    return file
