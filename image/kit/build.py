"""Building the static program, and looking at what came out."""

import os

from . import elf
from .common import ROOT, Fault, registry_remapped, run, target_dir
from .sysroot import ensure, installed

#: What a program may have at most.
BYTES_MAX = 2_500_000

#: Nobody unwinds a stripped program whose panics abort.
NO_TABLES = "-Cforce-unwind-tables=no"
#: The relocations of its own that a static-pie carries fit into a tenth. LLVM's
#: linker knows how; that of cross's images is GNU's.
PACKED = "-Clink-arg=--pack-dyn-relocs=relr"


def build(targets, cross=False, features="", pinned=False):
    """Builds for all the targets. Returns the programs by the targets' names.

    `pinned`: with std as `versions.toml` has it, even where rustup has the targets.
    With `features` they stand in a folder of their own, and are not measured by
    what the program without them may have."""
    if cross:
        environment = {"CROSS_CONFIG": str(ROOT / "cross.toml"),
                       "CARGO_ENCODED_RUSTFLAGS": NO_TABLES, **os.environ}
        for target in targets:
            run("cross", "build", "--release", "--locked", "--target", target.triple,
                cwd=ROOT, env=environment)
    else:
        environment = prepare(targets, (NO_TABLES, PACKED), pinned)
        triples = [word for target in targets for word in ("--target", target.triple)]
        folder = target_dir() / "with" / features if features else target_dir()
        run("cargo", "build", "--release", "--locked", "--features", features,
            "--target-dir", folder, *triples, cwd=ROOT, env=environment)
        if features:
            return {target.name: folder / target.triple / "release/pg-witness" for target in targets}
    return {target.name: program(target) for target in targets}


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
    file = target_dir() / target.triple / "release/pg-witness"
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
