"""Commands and page before, during and after a real failover, beside `patronictl` at the
same moments. Screenshots go to `PG_WITNESS_SCREENSHOTS`, if that names a folder."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from eyes import view
from eyes.browser import Browser
from rig.process import await_that

SHOTS = Path(os.environ.get("PG_WITNESS_SCREENSHOTS") or "/nonexistent")

YES, FAILED, NO = 0, 1, 3


@pytest.fixture
def browser(stereo):
    # A test that failed in the middle of a failover leaves the others their cluster.
    for node in stereo.nodes.values():
        if not node.running:
            node.start()
    if not stereo.witness.running:
        stereo.witness.start()
    stereo.await_well()
    with Browser(stereo.witness.machine, f"http://127.0.0.1:{view.PORT}/") as page:
        yield page
    assert page.complaints == []


def shoot(browser, name):
    """A wall screen's width and a phone's, by day and by night."""
    if not SHOTS.is_dir():
        return
    for kind, width, height, dark in (("wide", 1280, 900, False), ("wall", 1920, 1080, True),
                                      ("phone", 390, 844, False), ("night", 390, 844, True)):
        browser.size(width, height, dark, 2 if width < 600 else 1)
        time.sleep(0.5)  # The layout settles; nothing is asserted on it.
        browser.screenshot(SHOTS / f"{name}-{kind}.png", whole=width < 600)
    browser.size(1280, 900)


def scope_of(status):
    (cluster,) = status["status"]["clusters"]
    (scope,) = cluster["postgresql"]
    return cluster, scope


def await_status(machine, wanted):
    """Waits until `status` exits with `wanted`: on a busy machine Patroni's loop may be late."""
    await_that(lambda: view.command(machine, "status").returncode == wanted, 60,
               lambda: view.command(machine, "status").stdout)


def same_as_patronictl(stereo):
    """Whether both say the same at one moment: the keys change under us, so each is asked
    until a look of ours between two equal ones of patronictl's is at hand."""
    def agree():
        before = json.loads(stereo.patronictl("list", "-f", "json"))
        _, scope = scope_of(view.show(stereo.witness.machine, "status"))
        after = json.loads(stereo.patronictl("list", "-f", "json"))
        theirs = [{row["Member"]: (row["Role"], row["State"], row.get("TL") or None) for row in rows}
                  for rows in (before, after)]
        ours = {m["name"]: (m["role"].replace("_", " ").title(), m["state"], m["timeline"])
                for m in scope["members"] if not m["gone"]}
        seen.append((theirs, ours))
        return theirs[0] == theirs[1] == ours

    seen = []
    await_that(agree, 60, lambda: f"the witness and patronictl to agree: {seen[-1]}", every_s=0.5)


def lags_as_patronictl(stereo):
    rows = json.loads(stereo.patronictl("list", "-f", "json"))
    _, scope = scope_of(view.show(stereo.witness.machine, "status"))
    for row in rows:
        ours = next(m for m in scope["members"] if m["name"] == row["Member"])
        if row["Role"] == "Leader":
            assert ours["lag-bytes"] is None
        else:
            # Theirs is in whole megabytes.
            lag = row.get("Receive Lag", row.get("Lag in MB"))
            assert round(ours["lag-bytes"] / 2**20) == pytest.approx(lag, abs=1)


@pytest.mark.timeout(600)
def test_before_during_and_after(stereo, browser):
    machine = stereo.witness.machine
    victim = stereo.await_well()
    survivor = stereo.other(victim)
    expected = f"Yes. If {victim.name} fails now, {survivor.name} (in sync) takes over."

    # Before.
    await_status(machine, YES)
    same_as_patronictl(stereo)
    lags_as_patronictl(stereo)
    before = view.show(machine, "status")
    cluster, scope = scope_of(before)
    assert before["status"]["failover"]["sentence"] == expected
    assert scope["primary"] == victim.name and scope["synchronous-mode"] == "on"
    assert cluster["raft"]["quorum"] and cluster["raft"]["survives-one-more-loss"]
    assert [m["connected"] for m in cluster["raft"]["members"]] == [True] * 3
    told = [m["commit-index"] for m in cluster["raft"]["members"]]
    assert max(told) - min(told) < 50 and min(told) > 10
    versions = {m["version"] for m in cluster["raft"]["members"]}
    assert "0.3.17" in versions and len(versions) == 2
    assert 0 < scope["leader-key"]["expires-in-ms"] <= stereo.timing["ttl"] * 1000
    browser.await_text("#verdict", expected)
    browser.await_text("#postgresql", "accepting")
    assert "✓" in browser.evaluate("document.title")
    shoot(browser, "1-before")

    # The primary's machine is gone. The page is not touched.
    cut = time.time()
    victim.crash()
    page = browser.await_text("#verdict", "has not refreshed its leader key", 30)
    assert f"then {survivor.name} can take over" in page
    during = view.command(machine, "status")
    assert during.returncode == NO, during.stdout
    _, scope = scope_of(view.show(machine, "status"))
    assert scope["failover"]["answer"] == "under-way", scope["failover"]
    assert next(m for m in scope["members"] if m["name"] == victim.name)["stale"]
    shoot(browser, "2-during")
    # Asked now, so that the probe's word comes while the key still lives.
    checked = view.command(machine, "health-check")
    assert checked.returncode == NO and "1 of 2 accept connections" in checked.stdout
    browser.await_text("#notes", f"{victim.name} holds the leader key, but its PostgreSQL", 40)

    # The other took over: the next failure would not be survived, and that is said.
    stereo.observer.await_event("postgres", cut, 90, subject=survivor.name, role="primary")
    browser.await_text("#verdict", f"Not now. {survivor.name} took over from {victim.name}", 60)
    after = view.command(machine, "status")
    assert after.returncode == NO
    assert "DOWN" in after.stdout and f"{survivor.name} holds the leader key" in after.stdout
    same_as_patronictl(stereo)
    assert "…" in browser.evaluate("document.title")
    assert f"{survivor.name} is the primary now, after {victim.name}" in browser.text("#events")
    assert "key expired" in browser.text("#events") or "leads, term" in browser.text("#events")
    shoot(browser, "3-after")

    # It comes back, and all is well again.
    victim.start()
    assert stereo.await_well() is survivor
    browser.await_text("#verdict", f"Yes. If {survivor.name} fails now, {victim.name} (in sync)", 60)
    await_status(machine, YES)
    same_as_patronictl(stereo)
    shoot(browser, "4-again")


def test_the_witness_is_away(stereo, browser):
    """A page that stands open says that it is old, and recovers by itself."""
    stereo.await_well()
    browser.await_text("#verdict", "Yes.", 60)
    stereo.witness.stop()
    browser.await_text("#verdict", "Unknown.", 30)
    browser.await_text("#fresh", "OLD", 5)
    shoot(browser, "5-away")
    gone = view.command(stereo.witness.machine, "status")
    assert gone.returncode == FAILED and "no witness answers" in gone.stderr
    assert view.command(stereo.witness.machine, "alive").returncode == FAILED
    stereo.witness.start()
    browser.await_text("#verdict", "Yes.", 60)
    browser.await_text("#events", "listening on", 10)


def test_it_can_be_read_without_eyes_and_used_without_a_mouse(stereo, browser):
    browser.await_text("#verdict", "Yes.", 60)
    spoken = browser.spoken()
    names = [name for _, name in spoken]
    assert any(role == "heading" and name.startswith("Yes.") for role, name in spoken)
    # The drawing is told in words: who is what, and which links are up.
    (drawn,) = [name for role, name in spoken if role in ("image", "img") and "Raft link" in name]
    assert "primary" in drawn and " up" in drawn and "streams from" in drawn
    assert {"Server", "Role", "Lag", "Probe"} <= set(names)
    # Every word has contrast of 4.5 (WCAG AA) in both schemes.
    for dark in (False, True):
        browser.size(1280, 900, dark)
        await_that(lambda: browser.evaluate(CONTRAST) == [], 5,
                   lambda: f"contrast, dark={dark}: {browser.evaluate(CONTRAST)}")
    # Tab reaches the button, which probes.
    browser.evaluate("document.body.focus()")
    for _ in range(5):
        browser.key("Tab", 9)
        if browser.evaluate("document.activeElement.id") == "probe":
            break
    assert browser.evaluate("document.activeElement.id") == "probe"
    browser.evaluate("document.activeElement.click()")
    browser.await_text("#probe", "2 of 2 accept", 40)
    # Nothing is wider than a phone.
    browser.size(360, 740)
    await_that(lambda: browser.evaluate("document.documentElement.scrollWidth") <= 360, 5,
               lambda: browser.evaluate("document.documentElement.scrollWidth"))


#: Elements whose own text stands out too little from what is behind it.
CONTRAST = r"""
(() => {
  const parse = c => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest("svg") || e.matches("script,style,noscript,:disabled")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) bad.push(`${e.tagName} ${e.textContent.slice(0, 30)} ${((a + .05) / (b + .05)).toFixed(2)}`);
  }
  return bad;
})()
"""


def test_no_command_is_wider_than_a_terminal(stereo):
    stereo.await_well()
    await_status(stereo.witness.machine, YES)
    for name in ("status", "topology", "members", "health-check"):
        done = view.command(stereo.witness.machine, name)
        assert done.returncode == YES, f"{name}: {done.stdout}{done.stderr}"
        assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
        assert "\x1b" not in done.stdout
        assert re.search(r"10\.77\.0\.11", done.stdout)
