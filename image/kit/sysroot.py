"""std for our targets, built from Debian's `rust-src` (the signed source of just
this release of Rust) and the crates that its lock file names, and laid where `rustup
target add` would lay it; musl and the unwinder come from Debian, the linker is the
toolchain's own `rust-lld`.

It is laid into a sysroot of our own in the cache: the toolchain that is installed
here is rustup's or the distribution's, and stays as it is. What is handed out is
a `rustc` that looks there."""

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from .common import Fault, cache, output, registry_remapped, run, say, versions
from .debian import pinned, unpack

#: Raised by whoever changes how std is built below, so that it is built again.
RECIPE = 1

#: Debian's libunwind is built against glibc with fortified calls. Two of those
#: end up in our crtbegin.o; crtbegin and crtend have nothing else to do, since
#: lld and musl find .eh_frame and .init_array by themselves.
CRTBEGIN = """\
#![no_std]
use core::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    fn vfprintf(file: *mut c_void, format: *const c_char, list: *mut c_void) -> c_int;
    fn vsnprintf(to: *mut c_char, size: usize, format: *const c_char, list: *mut c_void) -> c_int;
}

// A va_list is one word in an argument register on all our targets.
#[unsafe(no_mangle)]
unsafe extern "C" fn __vfprintf_chk(
    file: *mut c_void, _flag: c_int, format: *const c_char, list: *mut c_void,
) -> c_int {
    unsafe { vfprintf(file, format, list) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __vsnprintf_chk(
    to: *mut c_char, size: usize, _flag: c_int, _length: usize, format: *const c_char,
    list: *mut c_void,
) -> c_int {
    unsafe { vsnprintf(to, size, format, list) }
}
"""

#: As rustc's own bootstrap builds std, and so that users' `lto = true` works.
STD_FLAGS = ("-Ctarget-feature=+crt-static", "-Cembed-bitcode=yes", "-Zforce-unstable-if-unmarked")

MUSL_FILES = ("crt1.o", "crti.o", "crtn.o", "rcrt1.o", "Scrt1.o",
              "libc.a", "libm.a", "libdl.a", "libpthread.a", "librt.a")


def installed(triple, rustc="rustc"):
    """Whether this compiler has std for the target: by rustup, or by us."""
    found = subprocess.run([rustc, "--print", "target-libdir", "--target", triple],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return found.returncode == 0 and any(Path(found.stdout.strip()).glob("libstd-*.rlib"))


def ensure(targets):
    """The compiler that has std for all these targets; builds what is missing."""
    rust = versions()["rust"]
    told = dict(line.split(": ", 1) for line in output("rustc", "-vV").splitlines() if ": " in line)
    if told.get("commit-hash") != rust["commit"]:
        raise Fault(
            f"rustc here is {told.get('release')} ({told.get('commit-hash', 'unknown')[:9]}), and std "
            f"is pinned for {rust['version']} ({rust['commit'][:9]}): install that one, or the "
            f"targets with rustup")
    with open(cache() / "sysroot.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sysroot = Sysroot(rust, told["host"])
        for target in targets:
            sysroot.add(target)
    return sysroot.rustc


class Sysroot:
    """std for the host, which is the installed one, and for our targets."""

    def __init__(self, rust, host):
        self.rust = rust
        self.root = cache() / f"sysroot-{rust['version']}-{rust['commit'][:9]}"
        self.source = cache() / f"rust-src-{rust['version']}" / "library"
        (self.root / "lib/rustlib").mkdir(parents=True, exist_ok=True)
        # The compiler itself: rustup's `rustc` only calls it, and would have it
        # look for its libraries elsewhere.
        toolchain = Path(output("rustc", "--print", "sysroot").strip())
        self.real = toolchain / "bin/rustc"
        replace_link(self.root / "lib/rustlib" / host, toolchain / "lib/rustlib" / host)
        self.rustc = self.root / "rustc"
        written = self.rustc.with_suffix(".new")
        written.write_text(
            f"#!/bin/sh\nexec {shlex.quote(str(self.real))} "
            f"--sysroot {shlex.quote(str(self.root))} \"$@\"\n")
        written.chmod(0o755)
        if not self.rustc.exists() or self.rustc.read_bytes() != written.read_bytes():
            written.rename(self.rustc)
        else:
            # The same file as before is the same compiler to cargo.
            written.unlink()

    def add(self, target):
        """Builds std for the target unless what is there was made the same way."""
        place = self.root / "lib/rustlib" / target.triple
        stamp, recipe = place / ".made-from", recipe_of(target)
        if stamp.exists() and stamp.read_text() == recipe:
            return
        self.unpack_source()
        say(f"building std for {target.triple}: some minutes, once")
        stage = cache() / "stage" / target.triple
        shutil.rmtree(stage, ignore_errors=True)
        libraries = stage / "lib/rustlib" / target.triple / "lib"
        (libraries / "self-contained").mkdir(parents=True)
        self.build(target, libraries)
        lay_musl(target, libraries / "self-contained")
        self.lay_crt(target, stage, libraries / "self-contained")
        (libraries.parent / ".made-from").write_text(recipe)
        shutil.rmtree(place, ignore_errors=True)
        libraries.parent.rename(place)
        shutil.rmtree(stage)

    def unpack_source(self):
        if self.source.exists():
            return
        deb = pinned("rust-src", "amd64")
        new = self.source.parent.with_name("rust-src.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        packed = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        run("tar", "-x", "-C", new, "--strip-components=4",
            f"./usr/src/rustc-{self.rust['version']}/library", stdin=packed.stdout)
        if packed.wait() != 0:
            raise Fault(f"{deb} cannot be unpacked")
        new.rename(self.source.parent)

    def build(self, target, libraries):
        """`library/sysroot`, in std's own workspace: its profile and its lock file
        (Debian vendors not quite all that this one wants). No path of this machine
        stays in it."""
        built = cache() / "build"
        shutil.rmtree(built, ignore_errors=True)
        environment = {
            **os.environ, "RUSTC": str(self.rustc), "RUSTC_BOOTSTRAP": "1",
            "CARGO_TARGET_DIR": str(built), "CARGO_PROFILE_RELEASE_DEBUG": "0",
            "__CARGO_DEFAULT_LIB_METADATA": "bootstrap",
        }
        where = {"cwd": self.source / "sysroot", "env": environment}
        run("cargo", "fetch", "--locked", "--quiet", "--target", target.triple, **where)
        flags = (*STD_FLAGS, *registry_remapped("/rust/deps"),
                 f"--remap-path-prefix={self.source.parent}=/rustc/{self.rust['commit']}")
        environment["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(flags)
        run("cargo", "build", "--release", "--locked", "--quiet",
            "--features", "panic-unwind,backtrace", "--target", target.triple,
            capture_output=True, text=True, **where)
        for library in (built / target.triple / "release/deps").glob("*.rlib"):
            if not library.name.startswith("libsysroot"):
                shutil.copy2(library, libraries)
        shutil.rmtree(built)

    def lay_crt(self, target, stage, place):
        for name, text in (("crtbegin", CRTBEGIN), ("crtend", "#![no_std]\n")):
            source = stage / f"{name}.rs"
            source.write_text(text)
            run(self.real, "--sysroot", stage, "--edition", "2024", "--crate-name", name,
                "--crate-type", "lib", "--emit", "obj", "-Copt-level=2", "-Cpanic=abort",
                "-Ccodegen-units=1", "--remap-path-prefix", f"{stage}=/crt",
                "--target", target.triple, "-o", place / f"{name}.o", source,
                env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
            shutil.copy2(place / f"{name}.o", place / f"{name}S.o")


def replace_link(link, to):
    if link.is_symlink() and link.readlink() == to:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(to)


def unwinder(target):
    """The package that has the unwinder, and its path there."""
    if target.debian == "armel":
        # LLVM's is not built for armel; GCC's speaks the same ABI.
        return "libgcc-14-dev", "usr/lib/gcc/arm-linux-gnueabi/14/libgcc_eh.a"
    return "libunwind-19-dev", "usr/lib/llvm-19/lib/libunwind.a"


def recipe_of(target):
    """What std for this target is made from, as one line."""
    debs = versions()["deb"]
    parts = [RECIPE, CRTBEGIN, STD_FLAGS, MUSL_FILES, sorted(versions()["rust"].items()),
             *(debs[name] for name in ("rust-src", "musl-dev", unwinder(target)[0]))]
    return hashlib.sha256(repr(parts).encode()).hexdigest() + "\n"


def lay_musl(target, place):
    unpacked = place / "debs"
    package, library = unwinder(target)
    for name in ("musl-dev", package):
        unpack(pinned(name, target.debian), unpacked)
    (musl,) = unpacked.glob("usr/lib/*-linux-musl*")
    for name in MUSL_FILES:
        shutil.copy2(musl / name, place)
    shutil.copy2(unpacked / library, place / "libunwind.a")
    shutil.rmtree(unpacked)
