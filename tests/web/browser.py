"""A real Chromium without a window, driven over the DevTools protocol: just what the page's tests need."""

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from tests import requirement

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
PATIENCE_S = 15.0


class Browser:
    """One running Chromium. Its pages share a cache, as an operator's do."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def command(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Ask the browser, or one page's session, to do something."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        await self._socket.send_json(
            message if session is None else {**message, "sessionId": session}
        )
        async with asyncio.timeout(PATIENCE_S):
            said = await answer
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        return said["result"]

    async def listen(self) -> None:
        """Hand answers and events to whoever waits for them, until the browser is gone."""
        async for message in self._socket:
            said = json.loads(message.data)
            if (number := said.get("id")) is not None:
                answer = self._answers.pop(number)
                if not answer.done():
                    answer.set_result(said)
            elif (page := self._pages.get(said.get("sessionId"))) is not None:
                page.note(said["method"], said["params"])

    @asynccontextmanager
    async def page(self, width: int = 1280, height: int = 900) -> AsyncIterator["Page"]:
        """A fresh, empty page of a certain size."""
        target = (await self.command("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.command("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        self._pages[page.session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.command(f"{domain}.enable")
        await page.resize(width, height)
        try:
            yield page
        finally:
            del self._pages[page.session]
            await self.command("Target.closeTarget", targetId=target)


class Page:
    """One page, and all that its console complained of."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.session = session
        self.complaints: list[str] = []
        """Console errors and warnings, uncaught exceptions, and violations of the content policy."""
        self._browser = browser

    async def command(self, method: str, **params: Any) -> Any:
        return await self._browser.command(method, self.session, **params)

    def note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Log.entryAdded":
                entry = params["entry"]
                # What the network does to the page is the test's own doing.
                if entry["level"] in ("error", "warning") and entry["source"] != "network":
                    self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url')}")
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", "")
                self.complaints.append(f"exception: {details['text']} {thrown}")
            case "Runtime.consoleAPICalled":
                # Plotly says "WARN:" through console.trace.
                if params["type"] in ("error", "warning", "assert", "trace"):
                    said = [str(arg.get("value", arg.get("description"))) for arg in params["args"]]
                    self.complaints.append(f"console.{params['type']}: {' '.join(said)}")

    async def resize(self, width: int, height: int) -> None:
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def open(self, url: str) -> None:
        """Go to a page; returns once it is loaded and its modules have run."""
        await self.command("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && location.href === '{url}'")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited when it is a promise."""
        said = await self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in said:
            raise RuntimeError(f"{expression}: {said['exceptionDetails']}")
        return said["result"].get("value")

    async def until(self, expression: str, wanted: Any = True) -> None:
        """Wait until an expression has a certain value."""
        found: Any = None

        async def matches() -> bool:
            nonlocal found
            assert self.complaints == []  # no test forgives one, so there is nothing to wait for
            try:
                found = await self.evaluate(expression)
            except RuntimeError as error:  # while one document gives way to the next
                found = error
            return type(found) is type(wanted) and found == wanted

        if not await eventually(matches):
            raise AssertionError(f"{expression} is {found!r}, not {wanted!r}; {self.complaints}")

    async def text(self, selector: str) -> str:
        """What an element reads as, hidden parts left out."""
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def count(self, selector: str) -> int:
        return int(await self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a picture of what is seen, or of the whole length of the page."""
        said = await self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(said["data"]))


async def eventually(holds: Callable[[], Awaitable[bool]], patience_s: float = PATIENCE_S) -> bool:
    """Whether something comes to hold soon."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not await holds():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A running Chromium; where there is none, the test is skipped or fails as the machine demands."""
    binary = shutil.which("chromium")
    if binary is None:
        requirement.missing("browser", "chromium is not installed")
    with tempfile.TemporaryDirectory(
        prefix="flexload-browser-", ignore_cleanup_errors=True
    ) as name:
        process = await asyncio.create_subprocess_exec(
            binary,
            *FLAGS,
            f"--user-data-dir={name}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": name, "TZ": "Europe/Berlin"},
        )
        try:
            address = await _address(Path(name) / "DevToolsActivePort")
            async with (
                aiohttp.ClientSession() as client,
                client.ws_connect(address, max_msg_size=0) as socket,
            ):
                browser = Browser(socket)
                listening = asyncio.create_task(browser.listen())
                try:
                    yield browser
                finally:
                    with suppress(TimeoutError, ConnectionError):
                        await browser.command("Browser.close")
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        finally:
            with suppress(ProcessLookupError, TimeoutError):
                async with asyncio.timeout(5.0):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _address(file: Path) -> str:
    """Where the DevTools listen; the browser writes its port and path once it does."""
    lines: list[str] = []

    async def written() -> bool:
        lines[:] = file.read_text().split() if file.exists() else []
        return len(lines) == 2

    if not await eventually(written, patience_s=30.0):
        raise AssertionError("chromium did not start")
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
