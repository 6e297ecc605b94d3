"""A headless browser for tests of pages, driven over a pipe by the Chrome DevTools Protocol."""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
SILENCE = 120  # seconds after which a silent browser counts as hung


class Page:
    """An open page: `complaints` holds the errors of its console and scripts, `requests` the addresses it asked for."""

    def __init__(self, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()  # commands to it, answers from it
        self._to, self._from = ours[1], theirs[0]

        def wire() -> None:
            """Move our pipes to descriptors 3 and 4, from which the browser reads commands and to which it answers."""
            commands, answers = os.dup(ours[0]), os.dup(theirs[1])
            os.dup2(commands, 3)
            os.dup2(answers, 4)

        self._process = subprocess.Popen(
            [str(BROWSER), *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=wire,
            pass_fds=(3, 4),
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._buffer, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def forget(self) -> None:
        """Leave the page, and drop what was collected from it."""
        self.call("Page.navigate", url="about:blank")
        self.settle()
        self.complaints.clear()
        self.requests.clear()

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its answer. Raises RuntimeError if the browser refuses it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, width: int = 1200, height: int = 800, dark: bool = False, ratio: float = 1) -> None:
        """Open a page in a window of this size in CSS pixels, and wait until it is loaded."""
        screen = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.ask("window.departed = true")
        self.call("Page.navigate", url=page.as_uri())
        while not self.ask("!window.departed && document.readyState === 'complete'"):
            time.sleep(0.02)
        self.settle()

    def settle(self) -> None:
        """Wait until changes are drawn."""
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def ask(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited. Raises RuntimeError if it fails."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send mousePressed, mouseMoved, mouseReleased or mouseWheel at a point of the window."""
        if kind in ("mousePressed", "mouseReleased"):
            more |= {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the left button at one point and release it at another."""
        self.mouse("mousePressed", *start)
        self.mouse("mouseMoved", *end, button="left", buttons=1)
        self.mouse("mouseReleased", *end)

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def click(self, selector: str) -> None:
        """Scroll an element into view and click in its middle."""
        query = f"document.querySelector({json.dumps(selector)})"
        box = self.ask(f"({query}.scrollIntoView({{block: 'nearest'}}), {query}.getBoundingClientRect().toJSON())")
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.mouse("mousePressed", *middle)
        self.mouse("mouseReleased", *middle)
        self.settle()

    def picture(self) -> bytes:
        """A screenshot of the window, as PNG."""
        import base64

        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], SILENCE)[0]:
                raise RuntimeError(f"the browser said nothing for {SILENCE} seconds")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        method, details = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(details["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(details["args"]))
        elif method == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.complaints.append(details["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
