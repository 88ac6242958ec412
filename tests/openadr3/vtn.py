"""A VTN of OpenADR 3 that does what a test says, and holds every exchange against the document."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.openadr3.contract import Contract

BASE = "/openadr3"
CREATED = "2027-03-04T11:00:00Z"
OPERATIONS = ("create", "update", "delete")
Document = dict[str, Any]
Reply = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: list[tuple[str, str]]
    body: Any
    token: str | None


class ScriptedVtn3:
    """Programs, events, vens, resources and reports, by id; `replies` come before all of them."""

    def __init__(self, version: str = "3.1.0", *, client: tuple[str, str] | None = None) -> None:
        self.version = version
        self.contract = Contract(version)
        self.faults: list[str] = []
        """What was not as the document has it, ours and the VEN's."""
        self.asked: list[Asked] = []
        self.objects: dict[str, dict[str, Any]] = {
            kind: {}
            for kind in ("programs", "events", "vens", "resources", "reports", "subscriptions")
        }
        self.replies: dict[str, Reply] = {}
        """By path, or the beginning of one with a `*`; None: as usual."""
        self.sloppy = False
        """Whether answers may be as wrong as the test makes them."""
        self.page = 50
        self.client = client
        self.tokens: dict[str, str] = {}
        self.token_lasts_s: int | None = 3600
        self.mqtt: Document | None = None
        """What /notifiers says of a broker."""
        self.url = ""
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()

    def program(self, program_id: str = "p", **fields: Any) -> None:
        self._put("programs", "PROGRAM", program_id, {"programName": "fast-dr", **fields})

    def event(self, event_id: str = "ev-1", **fields: Any) -> Document:
        return self._put("events", "EVENT", event_id, {"programID": "p", **fields})

    def gone(self, event_id: str) -> None:
        del self.objects["events"][event_id]

    def paths(self, method: str = "GET") -> list[str]:
        return [asked.path for asked in self.asked if asked.method == method]

    def bodies(self, path: str, method: str = "POST") -> list[Any]:
        return [a.body for a in self.asked if (a.method, a.path) == (method, path)]

    async def seen(self, method: str, path: str, count: int = 1, timeout_s: float = 20.0) -> Asked:
        """Wait until so many such requests have come; the last of those."""
        async with asyncio.timeout(timeout_s):
            while (
                len(found := [a for a in self.asked if (a.method, a.path) == (method, path)])
                < count
            ):
                self._news.clear()
                await self._news.wait()
        return found[count - 1]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(BASE).strip("/")
        media = request.content_type
        body = await self._body(request, form=media == "application/x-www-form-urlencoded")
        query = list(request.query.items())
        authorization = request.headers.get("Authorization", "")
        token = authorization.removeprefix("Bearer ") if authorization else None
        self.asked.append(Asked(request.method, path, query, body, token))
        self._news.set()
        faults = self.contract.request_faults(request.method, path, query, media, body)
        self.faults += (f"asked: {fault}" for fault in faults)
        for prefix, reply in self.replies.items():
            if path == prefix or (prefix.endswith("*") and path.startswith(prefix[:-1])):
                answer = await reply(request)
                if answer is not None:
                    return answer
        status, document = self._answer(request.method, path, query, body, token)
        if not self.sloppy:
            faults = self.contract.answer_faults(request.method, path, status, document)
            self.faults += (f"answered: {fault}" for fault in faults)
        return web.json_response(document, status=status)

    def _answer(
        self, method: str, path: str, query: list[tuple[str, str]], body: Any, token: str | None
    ) -> tuple[int, Any]:
        if path == "auth/server":
            return 200, {"tokenURL": f"{self.url}/auth/token"}
        if path == "auth/token":
            return self._token(body)
        if self.client is not None and token not in self.tokens:
            return (403 if self.version == "3.0.1" else 401), problem("no token, or an old one")
        if path == "notifiers":
            return 200, {"WEBHOOK": True, **({"MQTT": self.mqtt} if self.mqtt else {})}
        if path.startswith("notifiers/mqtt/topics/"):
            topic = path.removeprefix("notifiers/mqtt/topics/")
            return 200, {"topics": {o.upper(): f"{topic}/{o}" for o in OPERATIONS}}
        kind, _, object_id = path.rpartition("/") if path.count("/") in (1, 3) else (path, "", "")
        if kind.startswith("vens/"):
            kind = "resources"
        objects = self.objects[kind]
        if method == "GET" and object_id:
            found = objects.get(object_id)
            return (200, found) if found is not None else (404, problem("there is none"))
        if method == "GET":
            return 200, self._page(kind, dict(query))
        if method == "DELETE":
            gone = objects.pop(object_id, None)
            return (200, gone) if gone is not None else (404, problem("there is none"))
        if method == "PUT":
            objects[object_id] = {**objects[object_id], **body}
            return 200, objects[object_id]
        return self._create(kind, path, body)

    def _token(self, body: Any) -> tuple[int, Any]:
        if (body.get("client_id"), body.get("client_secret")) != self.client:
            error = {"error": "invalid_client", "error_description": "nobody we know"}
            return (400 if self.version == "3.0.1" else 401), error
        token = f"token-{next(self._numbers)}"
        self.tokens[token] = body["client_id"]
        lasts = {} if self.token_lasts_s is None else {"expires_in": self.token_lasts_s}
        return 200, {"access_token": token, "token_type": "Bearer", **lasts}

    def _page(self, kind: str, query: dict[str, str]) -> list[Any]:
        names = {"vens": "venName", "resources": "resourceName", "subscriptions": "clientName"}
        field = asked = names.get(kind, "")
        found = [
            o for o in self.objects[kind].values() if asked not in query or o[field] == query[asked]
        ]
        skip = int(query.get("skip", 0))
        return found[skip : skip + min(self.page, int(query.get("limit", 50)))]

    def _create(self, kind: str, path: str, body: Any) -> tuple[int, Any]:
        key = {"vens": "venName", "resources": "resourceName"}.get(kind)
        if key and any(o[key] == body[key] for o in self.objects[kind].values()):
            return 409, problem(f"{body[key]} is taken")
        fields = dict(body)
        fields.pop("objectType", None)
        if self.version == "3.1.0":
            fields["clientID"] = "client"
        elif kind == "resources":
            fields["venID"] = path.split("/")[1]
        created = self._put(kind, kind[:-1].upper(), f"{kind[0]}{next(self._numbers)}", fields)
        return 201, created

    def _put(self, kind: str, object_type: str, object_id: str, fields: Document) -> Document:
        meta = {
            "id": object_id,
            "createdDateTime": CREATED,
            "modificationDateTime": CREATED,
            "objectType": object_type,
        }
        self.objects[kind][object_id] = {**meta, **fields}
        return self.objects[kind][object_id]

    async def _body(self, request: web.Request, *, form: bool) -> Any:
        if form:
            return dict(await request.post())
        text = await request.text()
        return json.loads(text) if text else None


def problem(detail: str) -> Document:
    return {"title": "No", "detail": detail}


@contextlib.asynccontextmanager
async def serving(vtn: ScriptedVtn3, ssl: Any = None) -> AsyncIterator[ScriptedVtn3]:
    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_route("*", BASE + "/{path:.*}", vtn.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl)
    await site.start()
    host, port = runner.addresses[0][:2]
    vtn.url = f"{'https' if ssl else 'http'}://{host}:{port}{BASE}"
    try:
        yield vtn
    finally:
        await runner.cleanup()
    assert not vtn.faults, vtn.faults
