"""The end in good order, and the beginning again."""

import subprocess

import pytest
from guest import BOOT_LIMIT_S, on
from rig.process import await_that

from kit.card import BOOT_MIB

pytestmark = [pytest.mark.timeout(1800), pytest.mark.on_demand]

#: Two ticks of PID 1 and its goodbye, emulated; that of a witness that hangs takes longer.
END_LIMIT_S = 30


def data_is_clean(image):
    """Whether the data partition was taken off, and is whole."""
    place = f"{image}?offset={(1 + BOOT_MIB) << 20}"
    told = subprocess.run(["/sbin/dumpe2fs", "-h", place], check=True, capture_output=True, text=True).stdout
    checked = subprocess.run(["/sbin/e2fsck", "-fn", place], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    return "needs_recovery" not in told and "Filesystem state:         clean" in told


def press_until_heard(witness):
    """Buttons are looked for some seconds after the start."""
    def heard():
        if "power button" not in witness.output():
            witness.monitor("system_powerdown")
        return "power button" in witness.output()

    await_that(heard, BOOT_LIMIT_S, witness.output, every_s=1)


@on("x86", "virt")
def test_the_power_button(booted):
    witness = booted.witness
    witness.configure()
    booted.start()
    before = witness.status()
    assert not data_is_clean(witness.image)
    press_until_heard(witness)
    await_that(lambda: not witness.running, END_LIMIT_S, witness.output)
    assert witness.process.exit_status == 0
    assert "ending: PowerOff" in witness.output()
    assert data_is_clean(witness.image)

    witness.start()
    booted.settle()
    assert witness.status()["term"] >= before["term"]
    assert "no state in" not in witness.output().rsplit("is PID 1", 1)[1]


@on("x86")
def test_ctrl_alt_del_starts_it_again(booted):
    witness = booted.witness
    witness.configure()
    witness.start()
    witness.await_line("the witness makes progress")
    witness.monitor("sendkey ctrl-alt-delete")
    witness.await_line("ending: Restart", limit_s=END_LIMIT_S)
    witness.await_line("is PID 1", times=2)
    witness.await_line("the witness makes progress", times=2)
    assert "the data partition is in use" not in witness.output()
