"""What is published: complete, listed, described, and the same from any folder."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rig.paths import ROOT

from kit.common import TARGETS, cache, version

pytestmark = [pytest.mark.on_demand, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    subprocess.run([ROOT / "image/release", folder], check=True)
    return folder


def test_everything_is_listed_with_its_checksum(released):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=released, check=True)
    there = {file.name for file in released.iterdir()}
    listed = {line.split("  ")[1] for line in (released / "SHA256SUMS").read_text().splitlines()}
    assert listed == there - {"SHA256SUMS"}
    manifest = json.loads((released / "manifest.json").read_text())
    assert {file["file"] for file in manifest["files"]} == listed - {"manifest.json"}
    assert manifest["version"] == version()
    for file in manifest["files"]:
        data = (released / file["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
    programs = [file for file in manifest["files"] if file["kind"] == "program"]
    assert {file["target"] for file in programs} == {target.triple for target in TARGETS.values()}
    assert all(file["static"] and file["stripped"] and file["size"] <= 2_800_000 for file in programs)


def test_the_readme_names_what_is_there(released):
    """Its section on downloads, with the version that is released."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Installing"):text.index("### Building it")]
    pattern = r"pg-witness[-_]\d[\w.-]*?(?:-(?:x86_64|aarch64|armv7|armv6)|\.deb|\.tar|\.json)(?![\w.])"
    named = set(re.findall(pattern, section))
    there = {file.name for file in released.iterdir()}
    assert len(named) == 9 and named <= there, named - there
    # The container platforms, as the archive has them.
    archive = f"{released}/pg-witness-{version()}-oci.tar"
    told = subprocess.run(["tar", "-xOf", archive, "manifest.json"], capture_output=True, check=True).stdout
    tags = {tag for image in json.loads(told) for tag in image["RepoTags"]}
    assert tags == {f"pg-witness:{version()}-{arch}" for arch in ("amd64", "arm64", "armv7")}
    assert f"pg-witness:{version()}-amd64" in (released / "compose.yml").read_text()


def test_materials_and_licences(released):
    told = json.loads((released / f"pg-witness-{version()}.cdx.json").read_text())
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.5")
    parts = {part["name"] for part in told["components"]}
    assert {"openraft", "smol", "rustix", "musl", "rust-std", "libunwind", "libgcc"} <= parts
    # What only compiles or tests is no part of the program.
    assert not parts & {"tokio", "proptest", "tempfile", "serde_derive", "syn"}
    assert all(part["licenses"] for part in told["components"])
    known = {part["bom-ref"] for part in [*told["components"], told["metadata"]["component"]]}
    assert all(on in known for entry in told["dependencies"] for on in entry["dependsOn"])
    list_ = (released / "THIRD-PARTY.txt").read_text()
    # A stand-in of ours for a crate has neither a checksum nor another's licence.
    ours = {"base2histogram"}
    assert all(f"\n{part['name']} {part['version']}: " in list_
               for part in told["components"] if part["name"] not in ours)
    assert "Rich Felker, et al." in list_


def copy_of_the_source(to):
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                           capture_output=True, text=True, check=True).stdout.split("\0")
    for file in filter(None, files):
        if (ROOT / file).is_file():
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, to / file)


@pytest.mark.parametrize("board", ["x86_64", "aarch64"])
def test_two_builds_are_the_same(tmp_path, board):
    """In two folders, with two homes of cargo and two caches, std included."""
    made = []
    for place in ("one", "another/place/of/other/length"):
        folder = tmp_path / place
        copy_of_the_source(folder / "source")
        debs = folder / "cache/debs"
        # Fetched once; they are looked at again.
        shutil.copytree(cache() / "debs", debs) if (cache() / "debs").exists() else debs.mkdir(parents=True)
        # Where crates come from is the machine's, not ours.
        (folder / "cargo").mkdir()
        ours = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "config.toml"
        if ours.exists():
            shutil.copy2(ours, folder / "cargo")
        environment = {
            **os.environ, "SOURCE_DATE_EPOCH": "1700000000", "CARGO_HOME": str(folder / "cargo"),
            "CARGO_TARGET_DIR": str(folder / "target"), "PG_WITNESS_CACHE": str(folder / "cache"),
        }
        for script in ("container", "packages"):
            subprocess.run([folder / "source/image" / script, board, "--to", folder / "made"],
                           cwd=folder, env=environment, check=True)
        program = folder / "target" / TARGETS[board].triple / "release/pg-witness"
        made.append({file.name: file.read_bytes() for file in [program, *(folder / "made").iterdir()]})
        shutil.rmtree(folder)
    first, second = made
    assert first.keys() == second.keys() and len(first) == 3
    assert [name for name in first if first[name] != second[name]] == []
