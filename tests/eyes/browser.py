"""A headless Chromium on a machine, driven over its pipe (Chrome DevTools Protocol)."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

from rig.process import await_that

ANSWER_LIMIT_S = 30


class Browser:
    """One page that stays open while things happen."""

    def __init__(self, machine, url):
        self.machine = machine
        self.url = url
        self.complaints = []
        self._number = 0
        self._buffer = b""
        self._folder = None

    def __enter__(self):
        self._folder = tempfile.mkdtemp(prefix="pg-witness-browser-")
        theirs, self._to = os.pipe()
        self._from, ours = os.pipe()
        # Chromium listens on descriptor 3 and speaks on 4.
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars",
                   "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
                   f"--user-data-dir={self._folder}", "about:blank"]
        script = f'exec 3<&{theirs} 4>&{ours} {theirs}<&- {ours}>&-; exec "$@"'
        with open(os.path.join(self._folder, "log"), "wb") as log:
            self._process = subprocess.Popen(
                [*self.machine.enter, "setpriv", "--pdeathsig", "KILL", "--", "bash", "-c", script,
                 "bash", *command],
                pass_fds=(theirs, ours), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        os.close(theirs)
        os.close(ours)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")
        self.size(1280, 900)
        self.call("Page.navigate", url=self.url)
        return self

    def __exit__(self, *_):
        os.close(self._to)
        os.close(self._from)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    # The protocol

    def _call(self, method, session=None, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def call(self, method, **params):
        return self._call(method, self._session, **params)

    def _receive(self, deadline):
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._from], [], [], left)[0], "the browser is silent"
            part = os.read(self._from, 1 << 16)
            assert part, f"the browser ended: {open(os.path.join(self._folder, 'log')).read()[-2000:]}"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(message)
        self._notice(message.get("method"), message.get("params", {}))
        return message

    def _notice(self, method, params):
        """What no page of ours may do: complain, or ask anybody else."""
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("exception", {}).get("description")
                                   or params["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            # While the witness is away its page may say that it does not answer.
            if entry.get("source") != "network":
                self.complaints.append(entry["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith((self.url, "data:")):
                self.complaints.append(f"asked for {url}")

    # What a person does

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self, selector="body"):
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def await_text(self, selector, wanted, limit_s=30):
        """Waits until what stands there contains `wanted`."""
        return await_that(lambda: wanted in (text := self.text(selector)) and text, limit_s,
                          lambda: f"{wanted!r} in {selector}; there stands: {self.text(selector)!r}",
                          every_s=0.2)

    def size(self, width, height, dark=False, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=width < 600)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, file, whole=False):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name,
                      windowsVirtualKeyCode=code)

    def spoken(self):
        """Role and name of what a screen reader finds."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node.get("role", {}).get("value"), node.get("name", {}).get("value", ""))
                for node in nodes if not node.get("ignored")]
