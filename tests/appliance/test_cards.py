"""The cards, booted in qemu without acceleration: they vote, and say what is amiss."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guest import BOARDS, BOOT_LIMIT_S, BUGGY, HOST, insert, on
from rig.process import Process, await_that
from test_end import press_until_heard

from kit.card import BOOT_MIB

pytestmark = pytest.mark.timeout(1800)


# On `virt` the power cuts go through all of it.
@on("x86", pytest.param("virt", marks=pytest.mark.on_demand), "raspi3b")
def test_a_card_votes_and_remembers(booted):
    witness = booted.witness
    witness.configure()
    witness.start()
    await_that(witness.status, BOOT_LIMIT_S, "the witness to answer")
    for node in booted.nodes:
        node.start()
    leader = booted.settle()
    assert booted.a.ask("set", key="/before", value="1", limit_s=60) is True

    # The survivor leads: with the card's vote, for there is no other.
    lost = leader if leader in booted.nodes else booted.a
    survivor = next(node for node in booted.nodes if node is not lost)
    lost.kill()
    await_that(lambda: booted.leader([survivor, witness]), BOOT_LIMIT_S, "a new leader")
    assert survivor.ask("set", key="/after", value="2", limit_s=60) is True
    booted.settle([survivor, witness])
    before = witness.status()

    # The power cut, and the second boot, while its memory is needed for a majority.
    witness.kill()
    witness.start()
    await_that(witness.status, BOOT_LIMIT_S, "the witness to answer again")
    booted.settle([survivor, witness])
    after = witness.status()
    assert after["term"] >= before["term"] and after["commit_idx"] >= before["commit_idx"]
    assert "no state in" not in witness.output().rsplit("is PID 1", 1)[1]
    assert survivor.ask("set", key="/again", value="3", limit_s=60) is True
    lost.start()
    booted.settle()
    assert {key: entry["value"] for key, entry in lost.dump().items()} == {
        "/before": "1", "/after": "2", "/again": "3"}


@on("virt")
def test_a_wrong_configuration_is_shown_until_it_is_right(booted):
    witness = booted.witness
    witness.start()
    complaint = "pg-witness.json: clusters[0].self_addr: missing"
    witness.await_line(complaint)
    # The page is there without a token, for reading.
    await_that(lambda: any(complaint in note for note in witness.notes() or []), BOOT_LIMIT_S,
               "the page to say so")
    assert "pg-witness" in witness.page("/")
    assert witness.status() is None

    text = json.dumps({"appliance": {"adress": "dhcp"}})
    insert(witness.image, "pg-witness.json", text)
    witness.await_line("appliance.adress: unknown key; did you mean address?")
    witness.configure()
    witness.await_line("the configuration is good now")
    await_that(witness.status, BOOT_LIMIT_S, "the witness to answer")


@on("virt", pytest.param("intel", marks=pytest.mark.on_demand))
def test_a_board_whose_engine_alone_stands_still_is_reset(booted, card):
    witness = booted.witness
    image, _ = BOARDS[witness.board]
    witness.install(witness.board, card(image, BUGGY))
    witness.configure()
    witness.start("PG_WITNESS_STOP_ENGINES_AFTER_MS=1000", once=True)
    if witness.board == "intel":
        witness.await_line("watchdog: iTCO_wdt, acts after 10 s")
    # So long it is fed.
    witness.await_line("no progress for 20 s in main")
    # Its process lives and says so; PID 1 lives too, and does not feed.
    await_that(lambda: not witness.running, 120, "the watchdog to reset the machine")
    assert "ending, in order to be started again" not in witness.output()


def on_data(image, tool, *words):
    """What a tool of ext4 says of the data partition."""
    return subprocess.run([f"/sbin/{tool}", *words, f"{image}?offset={(1 + BOOT_MIB) << 20}"],
                          check=True, capture_output=True, text=True).stdout


def overwrite(image, block, offset, length):
    """Damages bytes of the data partition, whose blocks have 1 KiB."""
    with open(image, "r+b") as stream:
        stream.seek(((1 + BOOT_MIB) << 20) + 1024 * block + offset)
        stream.write(b"\xa5" * length)


def damage_inode(image):
    """Of the cluster's folder: it is mounted, and the folder is a "Bad message"."""
    told = on_data(image, "debugfs", "-R", "imap /main")
    block, offset = re.search(r"located at block (\d+), offset (0x[0-9a-f]+)", told).groups()
    overwrite(image, int(block), int(offset, 16), 128)


def damage_journal(image):
    """It is not even mounted."""
    overwrite(image, int(on_data(image, "debugfs", "-R", "bmap <8> 0")), 0, 1024)


def damage_superblock(image):
    """Its label goes with it."""
    overwrite(image, 1, 0, 1024)


@pytest.mark.parametrize("damage", [
    damage_inode, *(pytest.param(damage, marks=pytest.mark.on_demand)
                    for damage in (damage_journal, damage_superblock))])
@on("x86")
def test_a_damaged_file_system_is_recreated_and_the_card_votes_again(booted, damage):
    """S7: what is empty is known to be lost."""
    witness = booted.witness
    witness.configure()
    witness.start()
    await_that(witness.status, BOOT_LIMIT_S, "the witness to answer")
    for node in booted.nodes:
        node.start()
    booted.settle()
    assert booted.a.ask("set", key="/before", value="1", limit_s=60) is True
    booted.settle()
    # In good order: what the journal holds would be written over the damage.
    press_until_heard(witness)
    await_that(lambda: not witness.running, BOOT_LIMIT_S, witness.output)
    damage(witness.image)

    witness.start()
    witness.await_line("recreating its file system")
    witness.await_line("no state in", times=2)
    booted.settle()
    await_that(lambda: "a voter now" in witness.output().rpartition("recreated")[2], BOOT_LIMIT_S, witness.output)
    said = "The data partition was damaged and has been recreated (times so far: 1)"
    assert any(said in note for note in witness.notes())
    assert any("recreating its file system" in event["text"] for event in witness.events())
    booted.b.kill()
    await_that(lambda: booted.leader([booted.a, witness]), BOOT_LIMIT_S, booted.describe)
    assert booted.a.ask("set", key="/after", value="2", limit_s=60) is True

    # Once is enough, and it is still said.
    witness.kill()
    witness.start()
    booted.settle([booted.a, witness])
    assert witness.output().count("recreating its file system") == 1
    assert any(said in note for note in witness.notes())


@on("x86")
def test_a_witness_that_does_not_stay_up_is_shown_with_its_last_words(booted):
    """By PID 1, which has the page while the witness cannot."""
    witness = booted.witness
    witness.configure()
    # In the place of the cluster's folder.
    on_data(witness.image, "debugfs", "-w", "-R", "write /dev/null main")
    witness.start()
    said = re.compile(r"The witness ended: exit status 1, .*/data/main.* started again in \d+ s")
    await_that(lambda: any(map(said.match, witness.notes() or [])), BOOT_LIMIT_S, witness.output)


@pytest.mark.on_demand
@on("virt")
def test_the_clock_is_set_by_the_server_that_the_file_names(booted, tmp_path):
    witness = booted.witness
    witness.configure(appliance={"ntp": [HOST]})
    server = Process([sys.executable, Path(__file__).with_name("time_server.py")],
                     tmp_path / "time", booted.machine)
    try:
        witness.start()
        witness.await_line("The clock is not trusted")
        witness.await_line(f"the clock is set, by {HOST}")
        tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400))
        await_that(lambda: tomorrow in (witness.page("/status.json") or ""), BOOT_LIMIT_S,
                   "the page to show the time")
        assert not any("clock" in note for note in witness.notes())
    finally:
        server.kill()
