"""A real Chromium, spoken to over its debugging pipe: no driver, no port, no package."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# Windows' code of a key, and the text that it enters.
_KEYS = {
    "Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " "), "End": (35, ""), "Home": (36, ""),
    "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""),
}  # fmt: skip


def _pipe() -> tuple[int, int]:
    """Both ends with numbers of 10 and above."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]


class Browser:
    """One page of a headless Chromium.

    Args:
        options: more of its command line, such as that of a camera without a camera.
    """

    def __init__(self, *options: str) -> None:
        assert CHROMIUM is not None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Chromium reads commands from descriptor 3 and writes answers to 4; ours must be others.
        to_read, self._to = _pipe()
        self._from, to_write = _pipe()
        shell = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write} {to_read}<&- {to_write}>&-'
        always = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                  "--remote-debugging-pipe", "--no-first-run", "--disable-extensions",
                  f"--user-data-dir={self._profile.name}"]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", shell, CHROMIUM, *always, *options, "about:blank"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._answers = os.fdopen(self._from, "rb")
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.errors: list[str] = []
        self._choosers: list[int] = []
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> Any:
        """A command of the DevTools protocol and its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(json.dumps(answer["params"]))
            if answer.get("method") == "Page.fileChooserOpened":
                self._choosers.append(answer["params"]["backendNodeId"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 120) -> Any:
        """Ask until it is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := self.run(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds:g} seconds in vain for {expression}")

    def choose_file(self, selector: str, path: Path) -> None:
        """As a person does in the dialog."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def choose_file_when_asked(self, path: Path, ask: Callable[[], None]) -> None:
        """Let ``ask`` bring up the dialog, as a key does, and choose the file in it."""
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        ask()
        deadline = time.monotonic() + 30
        while not self._choosers:
            assert time.monotonic() < deadline, "no dialog came up"
            self.run("1")  # what has happened is told along with an answer
            time.sleep(0.05)
        node = self._choosers.pop()
        self.call("DOM.setFileInputFiles", files=[str(path)], backendNodeId=node)
        self.call("Page.setInterceptFileChooserDialog", enabled=False)

    def drop(self, *paths: Path) -> None:
        """Drag files from elsewhere over the middle of the window, and let them go."""
        dragged = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        x, y = (self.run(f"inner{side} / 2") for side in ("Width", "Height"))
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=dragged)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, as a person does; the browser does with it what it always does.

        Args:
            key: a character, or `Tab`, `Enter`, `Space`, `Home`, `End`, `ArrowDown`, ...
        """
        code, text = _KEYS.get(key, (ord(key[0].upper()), key))
        event: dict[str, Any] = {
            "key": " " if key == "Space" else key,
            "code": key if key in _KEYS else "",
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def resize(self, width: int, height: int) -> None:
        """Give the page's window a size in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as the system's setting says it."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def cut_off(self, offline: bool, upload_bytes_per_second: float = -1) -> None:
        """Take the network away, or give it back, as fast as it is or with slow uploads."""
        self.call("Network.enable")
        self.call("Network.emulateNetworkConditions", offline=offline, latency=0,
                  downloadThroughput=-1, uploadThroughput=upload_bytes_per_second)  # fmt: skip

    def picture(self, out: Path) -> None:
        """Write the whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            piece = self._answers.read1(1 << 16)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._to)
        self._process.kill()
        self._process.wait(30)
        self._answers.close()
        self._profile.cleanup()
