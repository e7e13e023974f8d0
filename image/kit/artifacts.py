"""The files that are published, from programs that are built."""

from . import bom, deb, oci
from .common import ROOT, commit, epoch, target, version


def container(programs, to):
    """The container image with these programs (by the targets' names)."""
    to.mkdir(parents=True, exist_ok=True)
    file = to / f"pg-witness-{version()}-oci.tar"
    platforms = {target(name).oci: program.read_bytes() for name, program in programs.items()}
    licences = {"LICENSE": (ROOT / "LICENSE").read_bytes(), "THIRD-PARTY": bom.licences().encode()}
    labels = {
        "org.opencontainers.image.title": "pg-witness",
        "org.opencontainers.image.description":
            "The third vote of a two-node PostgreSQL cluster run by Patroni",
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        "org.opencontainers.image.version": version(),
        **({"org.opencontainers.image.revision": commit()} if commit() else {}),
    }
    file.write_bytes(oci.archive("pg-witness", version(), platforms, licences, labels, epoch()))
    return file


def packages(programs, to):
    """A Debian package for each of these programs (by the targets' names)."""
    to.mkdir(parents=True, exist_ok=True)
    licences = bom.licences()
    return [deb.package(program.read_bytes(), target(name).package, version(), licences, epoch(), to)
            for name, program in programs.items()]
