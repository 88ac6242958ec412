"""Prism, a mock server that makes up answers after a published document, and what lies before it.

It is no part of the project. FLEXLOAD_PRISM names its program where it is not on the PATH; `.ci/run` sets
it up. It is run without `--errors`, which would have it answer 500 wherever what it made up itself breaks
the document: what it finds wrong with a request stands in a header of its answer all the same.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.openadr.vtn import free_port
from tests.openadr3.contract import DOCUMENTS
from tests.requirement import missing

_OWN = "https://stoplight.io/prism/errors#"
_FORCED = f"{_OWN}NOT_FOUND"
"""A status was asked for that the document does not have."""
_ODDS = 60
"""To one, that a made-up time, length or value is one that a VEN can use."""
_FORM = ("type", "format", "pattern")
Document = dict[str, Any]


def needed() -> Path:
    """Prism's program; skips or fails the test where there is none."""
    program = os.environ.get("FLEXLOAD_PRISM") or shutil.which("prism")
    if program is None or not Path(program).exists():
        missing("prism", "no Prism (npm install @stoplight/prism-cli)")
    return Path(program)


def published(version: str) -> Path:
    """A version's document as it is; skips or fails the test where it is missing."""
    file = DOCUMENTS / version / "openadr3.yaml"
    if not file.exists():
        missing("openadr3-documents", f"{file} is not there")
    return file


def pointed(version: str, directory: Path, *times: str) -> Path:
    """A copy of a version's document, narrowed to what a VEN acts upon: payload types that it knows, and
    mostly one of these times, a length that is one and a small value. The rest stays as odd.
    """
    document = yaml.safe_load(published(version).read_text(encoding="utf-8"))
    schemas = document["components"]["schemas"]
    signals = "SIMPLE IMPORT_CAPACITY_LIMIT DISPATCH_SETPOINT CONTROL_SETPOINT PRICE GHG"
    signals += " IMPORT_CAPACITY_SUBSCRIPTION CONTROL_LEVEL_OFFSET ALERT_GRID_EMERGENCY CURVE"
    reports = "USAGE DEMAND READING BASELINE OPERATING_STATE SETPOINT SIMPLE_LEVEL USAGE_FORECAST"
    # What we send is of such maps, too: values of reports, and targets.
    sent = f"{reports} DATA_QUALITY GROUP"
    types = {"valuesMap": f"{signals} {sent}", "eventPayloadDescriptor": signals}
    for name, listed in {**types, "reportDescriptor": reports}.items():
        properties = schemas[name]["properties"]
        properties["type" if "type" in properties else "payloadType"]["enum"] = listed.split()
    value = schemas["valuesMap"]["properties"]["values"]["items"]
    value["anyOf"] += _ODDS * [{"type": "integer", "minimum": 0, "maximum": 3}]
    likely = {"dateTime": list(times), "duration": ["PT5M", "PT1H", "PT0S", "P9999Y"]}
    for name, texts in likely.items():
        usual = {part: schemas[name][part] for part in _FORM if part in schemas[name]}
        schemas[name] = {"anyOf": [usual, *_ODDS * [{"type": "string", "enum": texts}]]}
    # As short as they usually come, they would often be those of others.
    schemas["objectID"]["pattern"] = "^[a-zA-Z0-9_-]{10,20}$"
    file = directory / "pointed.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


class OddVtn:
    """Passes requests on to Prism and its answers back; keeps both.

    Three things it sees to itself: that nobody is sent to a made-up host, what is said of the objects
    that it holds for the test, and that a list can be had a second time.
    """

    def __init__(self, prism_url: str) -> None:
        self.url = ""
        self.faults: list[str] = []
        """What Prism would not have of the VEN's requests."""
        self.asked: dict[tuple[str, str], int] = {}
        """How many requests of each kind came, by method and the first part of the path."""
        self.fed = 0
        """Answers that Prism made up."""
        self.held: dict[str, list[Document]] = {"programs": [], "events": []}
        """Sound objects that lead each list."""
        self.statuses: dict[tuple[str, str, int], int] = {}
        """Statuses to have of Prism: by method, path and how many such requests came before in this round."""
        self._prism_url = prism_url
        self._session: aiohttp.ClientSession | None = None
        self._kept: dict[tuple[str, str], tuple[int, Any]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._again = False

    def turn(self, *, again: bool = False) -> None:
        """A new round; `again`: what was asked for in the last is answered as it was then."""
        self._again = again
        self._counts.clear()
        if not again:
            self._kept.clear()

    def told(self, kind: str) -> list[Any]:
        """All objects that were listed in this round, or answered to who asked for them by their id, in order;
        one sent twice as it was sent last.
        """
        found: dict[str, Any] = {}
        for (method, asked), (status, document) in self._kept.items():
            path, _, object_id = asked.partition("?")[0].strip("/").partition("/")
            if (method, path, status) == ("GET", kind, 200):
                one_or_all = [document] if object_id else document
                for one in one_or_all:
                    if object_id in ("", one["id"]):
                        found[one["id"] or f"none, {len(found)}"] = one
        return list(found.values())

    async def serve(self, request: web.Request) -> web.Response:
        key = (request.method, request.path_qs)
        path = request.path.strip("/")
        count = self._counts.get((request.method, path), 0)
        self._counts[request.method, path] = count + 1
        kind = path.split("/")[0]
        held = next((o for o in self.held.get(kind, ()) if path == f"{kind}/{o['id']}"), None)
        if held is not None:
            return web.json_response(held)
        if self._again and request.method == "GET" and key in self._kept:
            status, document = self._kept[key]
        else:
            forced = self.statuses.get((request.method, path, count))
            status, document = await self._made_up(request, path, forced)
            if status == 200 and request.method == "GET" and request.query.get("skip") == "0":
                document = [*self.held.get(path, ()), *document]
            self._kept[key] = status, document
        return web.json_response(document, status=status)

    async def _made_up(
        self, request: web.Request, path: str, forced: int | None
    ) -> tuple[int, Any]:
        assert self._session is not None
        wanted = "dynamic=true" if forced is None else f"code={forced}, dynamic=true"
        passed = ("Authorization", "Content-Type", "Accept")
        headers = {name: request.headers[name] for name in passed if name in request.headers}
        url = f"{self._prism_url}{request.path_qs}"
        async with self._session.request(
            request.method, url, headers={**headers, "Prefer": wanted}, data=await request.read()
        ) as response:
            document = await response.json(content_type=None)
            violations = response.headers.get("sl-violations", "[]")
        self.fed += 1
        kind = (request.method, path.split("/", maxsplit=1)[0])
        self.asked[kind] = self.asked.get(kind, 0) + 1
        asked = f"{request.method} {request.path_qs}"
        # "Too many violations!" are of an answer of its own: a request that broke the document gets a short one.
        found = json.loads(violations) if violations.startswith("[") else ()
        self.faults += (f"{asked}: {one}" for one in found if one["location"][0] == "request")
        if isinstance(document, dict):
            named = str(document.get("type", ""))
            if named.startswith(_OWN) and (forced is None or named != _FORCED):
                self.faults.append(f"{asked}: {document}")
            if isinstance(document.get("tokenURL"), str):
                document["tokenURL"] = f"{self.url}/auth/token"
        return response.status, document

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["OddVtn"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as self._session:
                yield self
        finally:
            await runner.cleanup()


class Prism:
    """Prism on a document, in a process of its own."""

    def __init__(self, document: Path) -> None:
        port = free_port()
        command = [needed(), "mock", "--dynamic", "--port", str(port), document]
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    async def answers(self) -> None:
        """Wait until it does."""
        async with asyncio.timeout(50), aiohttp.ClientSession() as session:
            while True:
                assert self._process.poll() is None, "Prism ended"
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/programs"):
                        return
                await asyncio.sleep(0.1)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
