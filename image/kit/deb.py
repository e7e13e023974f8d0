"""Debian packages, made by a script: there is nothing to compile on a target, so
debhelper and a cross toolchain would do nothing but be there."""

import gzip
import hashlib
import os
import re
import tempfile
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from .common import IMAGE, ROOT, Fault, run, versions

#: Debian's, of the same version of the program.
REVISION = 1

OVERRIDES = """\
# One program for every release, with a C library of its own.
pg-witness: statically-linked-binary [usr/bin/pg-witness]
pg-witness: shared-library-lacks-prerequisites [usr/bin/pg-witness]
"""

#: A compressor's level is part of the bytes.
COMPRESSION = ("-Zxz", "-z9", "-Sextreme")


def maintainer():
    """Who answers for the packages, `NAME <ADDRESS>`: PG_WITNESS_MAINTAINER, else what
    `versions.toml` has, which is nobody."""
    named = os.environ.get("PG_WITNESS_MAINTAINER")
    if not named:
        return versions()["package"]["maintainer"]
    if not re.fullmatch(r"[^<>()@,\s][^<>()@,\n]* <[^<>@,\s]+@[^<>@,\s]+>", named):
        raise Fault(f"PG_WITNESS_MAINTAINER is {named!r}, which is not of the form NAME <ADDRESS>")
    return named


def disk_format():
    """The format of the state on disk that this source reads and writes."""
    found = re.search(r"const FORMAT: u32 = (\d+);", (ROOT / "src/disk/format.rs").read_text())
    if not found:
        raise Fault("src/disk/format.rs names no FORMAT")
    return found.group(1)


def package(program, architecture, version, licences, epoch, to):
    """Writes pg-witness_VERSION-1_ARCHITECTURE.deb into the folder `to`. The same
    program, licences and `epoch` (seconds) give the same bytes."""
    version, who = f"{version}-{REVISION}", maintainer()
    file = to / f"pg-witness_{version}_{architecture}.deb"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lay(root, program, version, licences, changelog(version, who, epoch))
        words = {
            "VERSION": version, "ARCHITECTURE": architecture, "FORMAT": disk_format(),
            "MAINTAINER": who, "INSTALLED_SIZE": str(installed_kib(root)),
        }
        control = root / "DEBIAN"
        control.mkdir()
        write(control / "control", filled("control", words))
        for script in ("preinst", "postinst", "prerm", "postrm"):
            write(control / script, filled(script, words), 0o755)
        write(control / "conffiles", "/etc/pg-witness/environment\n")
        write(control / "md5sums", md5sums(root))
        for path in (root, *root.rglob("*")):
            if path.is_dir():
                # Whatever the umask: what stands here is laid over the system's own.
                path.chmod(0o755)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
        run("dpkg-deb", "--root-owner-group", *COMPRESSION, "--build", root, file,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}, capture_output=True, text=True)
    return file


def lay(root, program, version, licences, debian_changelog):
    """The files of the package, where they are to be installed."""
    doc = "usr/share/doc/pg-witness"
    place(root / "usr/bin/pg-witness", program, 0o755)
    place(root / "lib/systemd/system/pg-witness.service",
          (IMAGE / "systemd/pg-witness.service").read_bytes())
    place(root / "etc/pg-witness/environment", (IMAGE / "debian/environment").read_bytes())
    manual = filled("pg-witness.8", {"VERSION": version}).encode()
    place(root / "usr/share/man/man8/pg-witness.8.gz", compressed(manual))
    place(root / f"{doc}/copyright", copyright_of((ROOT / "LICENSE").read_text()).encode())
    place(root / f"{doc}/THIRD-PARTY.gz", compressed(licences.encode()))
    place(root / f"{doc}/changelog.gz", compressed((ROOT / "CHANGELOG.md").read_bytes()))
    place(root / f"{doc}/changelog.Debian.gz", compressed(debian_changelog.encode()))
    place(root / "usr/share/lintian/overrides/pg-witness", OVERRIDES.encode())


def copyright_of(licence):
    """Ours; of the licences that every Debian has, only where they are."""
    mit = re.split("-{60,}", licence)[1]
    return (
        "pg-witness is licensed under the MIT License or the Apache License, Version 2.0,\n"
        "as you like. The latter is /usr/share/common-licenses/Apache-2.0.\n\n"
        f"{mit.strip()}\n\n"
        "What it is made of, and under which licences: THIRD-PARTY.gz in this folder.\n")


def changelog(version, who, epoch):
    return (f"pg-witness ({version}) stable; urgency=medium\n\n"
            f"  * What changed stands in changelog.gz.\n\n"
            f" -- {who}  {format_datetime(datetime.fromtimestamp(epoch, UTC))}\n")


def filled(name, words):
    text = (IMAGE / "debian" / name).read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def compressed(data):
    return gzip.compress(data, 9, mtime=0)


def place(path, data, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, data, mode)


def write(path, data, mode=0o644):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)


def installed_kib(root):
    return sum((path.stat().st_size + 1023) // 1024 for path in root.rglob("*") if path.is_file())


def md5sums(root):
    """What dpkg compares installed files with; no conffiles."""
    files = (p for p in sorted(root.rglob("*"))
             if p.is_file() and p.relative_to(root).parts[0] not in ("DEBIAN", "etc"))
    return "".join(f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(root)}\n"
                   for p in files)
