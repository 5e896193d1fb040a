"""What does a page look like in a browser, and what does it ask for? A headless Chromium, driven through a pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from requirement import need

_LASTS_AT_MOST = 120  # s; a page that never comes is an error, not a hang


@dataclass
class Seen:
    """A page as it was shown. `requests` are the addresses asked for, `complaints` what the browser logged about it;
    `widest` is how many pixels the content is wide."""

    requests: list[str]
    complaints: list[str]
    widest: int
    picture: bytes  # PNG, of the whole page


@dataclass
class Browser:
    """One tab. Raises RuntimeError where the browser does not do what it is told."""

    _to: int
    _from: int
    _read: bytes = b""
    _session: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while (answer := self._next()).get("id") != number:
            self._events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"the browser refuses {method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended, or was ended since it said nothing more")
            self._read += piece
        message, _, self._read = self._read.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def show(self, address: str, width: int, dark: bool = False, scale: int = 1, most: int = 20000) -> Seen:
        """A page at a width in pixels, with the picture at most so high."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=scale, mobile=True)
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        answer = self.call("Page.navigate", url=address)
        if "errorText" in answer:
            raise RuntimeError(f"the browser cannot show {address}: {answer['errorText']}")
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._next())
        widest = self.value("document.documentElement.scrollWidth")
        high = min(self.value("document.documentElement.scrollHeight"), most)
        clip = {"x": 0, "y": 0, "width": width, "height": high, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return Seen(
            [event["params"]["request"]["url"] for event in self._told("Network.requestWillBeSent")],
            self.complaints(),
            int(widest),
            base64.b64decode(shot["data"]),
        )

    def complaints(self) -> list[str]:
        """What was logged since the page was asked for."""
        self.value("1")  # what was told before comes before its answer
        return [
            *(event["params"]["entry"]["text"] for event in self._told("Log.entryAdded")),
            *(str(event["params"]) for event in self._told("Runtime.exceptionThrown")),
        ]

    def _told(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event.get("method") == method]

    def value(self, expression: str) -> Any:
        """What a script in the page would find."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


def _as_three_and_four(reads: int, writes: int) -> None:
    os.dup2(reads, 3)
    os.dup2(writes, 4)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser of its own, with an empty profile, that ends with the block."""
    need("chromium")
    with tempfile.TemporaryDirectory(prefix="backupready-browser-", ignore_cleanup_errors=True) as profile:
        ends = [*os.pipe(), *os.pipe()]
        # Out of the way of 3 and 4, by which the browser knows them.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
        for end in ends:
            os.close(end)
        its_input, our_output, our_input, its_output = high
        process = subprocess.Popen(
            [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=lambda: _as_three_and_four(its_input, its_output),
        )
        os.close(its_input)
        os.close(its_output)
        tab = Browser(our_output, our_input)
        watchdog = threading.Timer(_LASTS_AT_MOST, process.kill)
        watchdog.start()
        try:
            tab.attach()
            yield tab
        finally:
            watchdog.cancel()
            process.terminate()
            process.wait(20)
            os.close(our_output)
            os.close(our_input)
