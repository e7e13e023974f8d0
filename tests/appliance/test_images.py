"""The images as files: their layout, their size, and that anybody's are the same."""

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from guest import BUGGY, extract
from test_release import copy_of_the_source

from kit.common import cache

MIB = 1 << 20


def partitions(image):
    told = subprocess.run(["/sbin/sfdisk", "--json", image], check=True, capture_output=True).stdout
    table = json.loads(told)["partitiontable"]
    assert table["label"] == "dos"
    return [(part["start"] * 512, part["size"] * 512, part["type"]) for part in table["partitions"]]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name, features", [("pi", ""), ("x86", ""), ("pi", BUGGY)])
def test_the_layout_has_room_for_a_second_boot_partition(card, tmp_path, name, features):
    made = card(name, features)
    boot, data = partitions(made)
    assert data[0] == boot[0] + boot[1] and data[0] + data[1] <= made.stat().st_size <= 64 * MIB
    assert len(gzip.compress(made.read_bytes(), 6)) <= 25_000_000
    assert json.loads(extract(made, "pg-witness.json"))["clusters"]
    assert b"HOLDS THE CLUSTER'S PASSWORD" in extract(made, "pg-witness.example.txt")

    # On a card as one buys it: another of the same size, and nothing moves for it.
    card_of_1_gib = shutil.copyfile(made, tmp_path / "card.img")
    os.truncate(card_of_1_gib, 1024 * MIB)
    subprocess.run(["/sbin/sfdisk", "--quiet", "--append", card_of_1_gib], check=True, text=True,
                   input=f"size={boot[1] // 512}, type={boot[2]}\n")
    *before, second = partitions(card_of_1_gib)
    assert before == [boot, data] and second[1:] == boot[1:] and second[0] >= made.stat().st_size


@pytest.mark.on_demand
@pytest.mark.timeout(3600)
def test_two_builds_are_the_same(tmp_path):
    """In two folders, with two homes of cargo; tests/image does that with std."""
    made = []
    for place in ("one", "another/place/of/other/length"):
        folder = tmp_path / place
        copy_of_the_source(folder / "source")
        (folder / "cargo").mkdir()
        # Where crates come from is the machine's, not ours.
        ours = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "config.toml"
        if ours.exists():
            shutil.copy2(ours, folder / "cargo")
        environment = {**os.environ, "CARGO_HOME": str(folder / "cargo"),
                       "CARGO_TARGET_DIR": str(folder / "target"), "PG_WITNESS_CACHE": str(cache())}
        subprocess.run([folder / "source/image/cards", "--to", folder / "made"], cwd=folder,
                       env=environment, check=True)
        made.append({file.name: file.read_bytes() for file in (folder / "made").iterdir()})
        shutil.rmtree(folder)
    first, second = made
    assert first.keys() == second.keys() == {"pg-witness-pi.img", "pg-witness-x86.img"}
    assert [name for name in first if first[name] != second[name]] == []
