"""What the program is made of, from `cargo metadata`: a bill of materials in
CycloneDX, and the licences that its parts ask to be handed on."""

import functools
import json
import re
import tomllib
import uuid
from pathlib import Path

from .common import IMAGE, ROOT, TARGETS, Fault, output, versions

LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.I)


@functools.cache
def packages():
    """The crates that are linked into the program for any of our targets, and the
    crates that each needs: (packages by id, needed ids by id)."""
    found, needs = {}, {}
    for target in TARGETS.values():
        for_target = ("--locked", "--filter-platform", target.triple)
        told = json.loads(output("cargo", "metadata", "--format-version", "1", *for_target, cwd=ROOT))
        # `metadata` counts what the tests' features would bring; `tree` does not.
        linked = set(output("cargo", "tree", "--locked", "--target", target.triple,
                            "--edges", "normal,no-proc-macro", "--prefix", "none",
                            "--format", "{p}", cwd=ROOT).splitlines())
        linked = {tuple(line.split()[:2]) for line in linked}
        found |= {p["id"]: p for p in told["packages"]
                  if (p["name"], "v" + p["version"]) in linked}
        for node in told["resolve"]["nodes"]:
            needs.setdefault(node["id"], set()).update(
                dep["pkg"] for dep in node["deps"] if dep["pkg"] != node["id"]
                and any(kind["kind"] is None for kind in dep["dep_kinds"]))
    return found, {id: needed & found.keys() for id, needed in needs.items() if id in found}


def foreign():
    """What is linked besides crates: (name, version, licence, whose it is)."""
    def upstream(package):
        return versions()["deb"][package]["version"].rpartition(":")[2].partition("-")[0]

    return [
        ("rust-std", versions()["rust"]["version"], "MIT OR Apache-2.0", "https://rust-lang.org"),
        ("musl", upstream("musl-dev"), "MIT", "https://musl.libc.org"),
        ("libunwind", upstream("libunwind-19-dev"), "Apache-2.0 WITH LLVM-exception",
         "https://llvm.org"),
        ("libgcc", upstream("libgcc-14-dev"), "GPL-3.0-or-later WITH GCC-exception-3.1",
         "https://gcc.gnu.org; in the place of libunwind on ARMv6"),
    ]


def checksums():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def cyclonedx(version):
    """CycloneDX 1.5, the same bytes each time."""
    found, needs = packages()
    known = checksums()
    parts = sorted(found.values(), key=lambda p: (p["name"], p["version"]))

    def component(package):
        entry = {
            "type": "library", "bom-ref": purl(package), "name": package["name"],
            "version": package["version"], "purl": purl(package), "scope": "required",
        }
        if package["license"]:
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = known.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    ours = next(p for p in parts if p["name"] == "pg-witness")
    bom = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, " ".join(map(purl, parts))).urn,
        "metadata": {"component": {**component(ours), "type": "application", "version": version}},
        "components": [component(p) for p in parts if p is not ours] + [
            {"type": "library", "bom-ref": f"pkg:generic/{name}@{number}", "name": name,
             "version": number, "purl": f"pkg:generic/{name}@{number}",
             "licenses": [{"expression": licence}]}
            for name, number, licence, _ in foreign()],
        "dependencies": [
            {"ref": purl(p), "dependsOn": sorted(purl(found[id]) for id in needs[p["id"]])}
            for p in parts],
    }
    return json.dumps(bom, indent=1, sort_keys=True) + "\n"


def licences():
    """The licence list: every part with its licence, and every licence text once."""
    found, _ = packages()
    parts = sorted((p for p in found.values() if p["source"]),
                   key=lambda p: (p["name"], p["version"]))
    texts = {}

    def line(name, version, licence, of_it):
        numbers = sorted({texts.setdefault(text, len(texts) + 1) for text in of_it})
        return (f"{name} {version}: {licence}"
                + (f" (texts {', '.join(map(str, numbers))})" if numbers else ""))

    lines = []
    for package in parts:
        if not package["license"]:
            raise Fault(f"{package['name']} {package['version']} names no licence")
        lines.append(line(package["name"], package["version"], package["license"],
                          licence_texts(Path(package["manifest_path"]).parent)))
    for name, version, licence, whose in foreign():
        own = IMAGE / "licences" / name
        lines.append(line(name, version, f"{licence}, {whose}",
                          [own.read_text().strip()] if own.exists() else []))
    head = ("pg-witness is made of the following. Each part is used under the licence named,\n"
            "the Apache License where that may be chosen; the texts that come with the parts\n"
            "follow.\n\n")
    rule = "\n\n" + "=" * 78 + "\n"
    body = "".join(f"{rule}{number}.\n\n{text}" for text, number in texts.items())
    return head + "\n".join(lines) + "\n" + body + "\n"


def licence_texts(folder):
    """What a crate has of licences, in its folder or in one for them."""
    files = (*folder.iterdir(), *folder.glob("LICENSES/*"))
    return [file.read_text(errors="replace").replace("\r\n", "\n").strip()
            for file in sorted(files) if file.is_file()
            and (LICENCE_FILE.match(file.name) or file.parent.name == "LICENSES")]
