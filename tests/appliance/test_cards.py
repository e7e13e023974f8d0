"""The cards, booted in qemu without acceleration: they vote, and say what is amiss."""

import json
import sys
import time
from pathlib import Path

import pytest
from guest import BOARDS, BOOT_LIMIT_S, BUGGY, HOST, insert, on
from rig.process import Process, await_that

pytestmark = pytest.mark.timeout(1800)


@on("x86", "virt", "raspi3b")
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


@on("virt", "intel")
def test_a_board_whose_engine_alone_stands_still_is_reset(booted, card):
    witness = booted.witness
    image, _ = BOARDS[witness.board]
    witness.install(witness.board, card(image, BUGGY))
    witness.configure()
    witness.start("PG_WITNESS_STOP_ENGINES_AFTER_MS=1000", once=True)
    if witness.board == "intel":
        witness.await_line("watchdog: iTCO_wdt, acts after 15 s")
    # So long it is fed.
    witness.await_line("no progress for 20 s in main")
    # Its process lives and says so; PID 1 lives too, and does not feed.
    await_that(lambda: not witness.running, 120, "the watchdog to reset the machine")
    assert "ending, in order to be started again" not in witness.output()


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
