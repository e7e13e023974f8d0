"""Everything that is published, in one folder."""

import json
import shutil

from . import bom, elf
from .artifacts import container, packages
from .build import build
from .common import IMAGE, ROOT, TARGETS, Fault, commit, epoch, output, sha256, target, version, versions


def release(to):
    """Builds everything into the empty folder `to`; returns its manifest."""
    if to.exists() and any(to.iterdir()):
        raise Fault(f"{to} is not empty; a release is made into a new folder")
    to.mkdir(parents=True, exist_ok=True)
    source = commit()
    built = build(list(TARGETS.values()), pinned=True)
    programs = {}
    for name, program in built.items():
        programs[name] = to / f"pg-witness-{version()}-{name}"
        shutil.copy2(program, programs[name])
    files = [entry(file, "program", target(name)) for name, file in programs.items()]
    image = container({n: p for n, p in programs.items() if target(n).oci}, to)
    files.append(entry(image, "container"))
    packaged = {n: p for n, p in programs.items() if target(n).package}
    files += [entry(file, "package", target(name))
              for name, file in zip(packaged, packages(packaged, to))]
    for name, kind, text in (
        (f"pg-witness-{version()}.cdx.json", "sbom", bom.cyclonedx(version())),
        ("THIRD-PARTY.txt", "licences", bom.licences()),
        ("LICENSE", "licence", (ROOT / "LICENSE").read_text()),
        ("compose.yml", "compose", (IMAGE / "compose.yml").read_text()),
        ("pg-witness.service", "unit", (IMAGE / "systemd/pg-witness.service").read_text()),
    ):
        (to / name).write_text(text)
        files.append(entry(to / name, kind))
    if commit() != source:
        raise Fault("the checkout was changed meanwhile; begin anew, in another folder")
    manifest = {
        "name": "pg-witness", "version": version(), "commit": source, "epoch": epoch(),
        "rustc": versions()["rust"], "rustc_used": output("rustc", "--version").strip(),
        "files": sorted(files, key=lambda file: file["file"]),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (to / "manifest.json").write_text(text)
    sums = sorted(file for file in to.iterdir() if file.name != "SHA256SUMS")
    (to / "SHA256SUMS").write_text("".join(f"{sha256(file)}  {file.name}\n" for file in sums))
    return manifest


def entry(file, kind, of=None):
    """One file in the manifest; of a program, what it is proven to be."""
    found = {"file": file.name, "kind": kind, "size": file.stat().st_size, "sha256": sha256(file)}
    if of:
        found["target"] = of.triple
    if kind == "program":
        told = elf.read(file)
        found |= {"machine": told.machine, "static": told.static, "stripped": told.stripped}
    return found
