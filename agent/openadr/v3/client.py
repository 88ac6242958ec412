"""A VTN of OpenADR 3 as its VEN sees it: lists to read, objects to create.

A list is all of its pages or none: whatever is missing from a page that failed is not gone.
"""

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote as url_quote

from pydantic import BaseModel

from agent.clock import Clock
from agent.errors import UnreachableError, WireError
from agent.openadr.http import StatusError
from agent.openadr.standing import LinkKeeper
from agent.openadr.v3.dialect import Report, dialect_of
from agent.openadr.v3.http import Http, Query
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.tokens import Tokens
from agent.openadr.v3.wire import (
    RejectedObject,
    WireMqtt,
    WireNotifiers,
    WireResource,
    WireSubscription,
    WireTopics,
    WireVen,
    read_object,
)

PAGE = 50
"""Objects asked for at a time: the most that the documents allow."""
MOST_PAGES = 2_000
MOST_LISTED = 4
"""A list may be so many times as long as one answer: it is in memory as a whole."""
_UNAUTHORISED = (401, 403)
_CONFLICT = 409
_GONE = (403, 404)

Object = TypeVar("Object", bound=BaseModel)


class Client:
    """Asks one VTN. Every method raises `UnreachableError` when no answer came, its kind `StatusError` when
    the VTN refuses, and `WireError` when the answer is unusable.
    """

    def __init__(self, settings: Ven3Settings, clock: Clock, link: LinkKeeper) -> None:
        """Raises `ConfigError` for unusable files. Connects to nothing."""
        self._settings = settings
        self._http = Http(settings, clock, link)
        self._dialect = dialect_of(settings.version)
        self._link = link
        self._tokens: Tokens | None = None
        if settings.client_id is not None:
            self._tokens = Tokens(settings, self._http, clock)

    async def programs(self) -> list[Any]:
        """All programs, as sent."""
        return await self._list("programs", self._dialect.targets(self._settings.targets))

    async def events(self) -> list[Any]:
        """All events, as sent."""
        return await self._list("events", self._dialect.targets(self._settings.targets))

    async def event(self, event_id: str) -> Any | None:
        """One event, as sent; None when the VTN has none of that id for us."""
        try:
            return await self._ask("GET", f"events/{url_quote(event_id, safe='')}")
        except StatusError as error:
            if error.status in _GONE:
                return None
            raise

    async def enrol_ven(self) -> str:
        """The id of our ven object, created where there is none yet."""
        name = self._settings.label
        query = self._dialect.vens(name)
        return await self._enrol("vens", query, name, self._dialect.ven(name), WireVen)

    async def enrol_resource(self, ven_id: str) -> str:
        """The id of our resource object, created where there is none yet."""
        name = self._settings.resource
        path = self._dialect.resources_path(url_quote(ven_id, safe=""))
        query = self._dialect.resources(ven_id, name)
        body = self._dialect.resource(ven_id, name)
        return await self._enrol(path, query, name, body, WireResource)

    async def send(self, report: Report) -> None:
        """Create a report. What the VTN says of it but that it took it, nobody needs."""
        body = self._dialect.report(report, self._settings.label)
        await self._ask("POST", "reports", body=body)

    async def subscriptions(self) -> list[WireSubscription]:
        """Those of our name, as far as they can be read."""
        name = self._settings.label
        found = await self._list("subscriptions", [("clientName", name)])
        read = (read_object(WireSubscription, one, "subscription") for one in found)
        return [one for one in read if not isinstance(one, RejectedObject)]

    async def subscribe(self, program_id: str, url: str, token: str, known_id: str | None) -> str:
        """Have notifications sent to an address, with a token of ours; the id of that subscription, which
        is a known one, replaced, or a new one. An empty `program_id` is for all programs (3.1.0).
        """
        body = self._dialect.subscription(
            self._settings.label, program_id, url, token, self._settings.targets
        )
        if known_id is not None:
            await self._ask("PUT", f"subscriptions/{url_quote(known_id, safe='')}", body=body)
            return known_id
        made = await self._ask("POST", "subscriptions", body=body)
        return _usable(made, WireSubscription, "subscription").id

    async def unsubscribe(self, subscription_id: str) -> None:
        """Delete a subscription. One that is gone already is as good."""
        try:
            await self._ask("DELETE", f"subscriptions/{url_quote(subscription_id, safe='')}")
        except StatusError as error:
            if error.status not in _GONE:
                raise

    async def mqtt(self) -> WireMqtt | None:
        """Where the VTN's broker is; None: it has none (3.1.0)."""
        return _usable(await self._ask("GET", "notifiers"), WireNotifiers, "notifiers").mqtt

    async def topics(self, path: str) -> tuple[str, ...]:
        """Topics of what changes at some path: `programs`, `vens/7/events` (3.1.0)."""
        answer = await self._ask("GET", f"notifiers/mqtt/topics/{path}")
        return _usable(answer, WireTopics, "topics").names

    async def token(self) -> str | None:
        """A token for the VTN's broker; None when we go without."""
        return None if self._tokens is None else await self._tokens.current()

    def refused(self, token: str) -> None:
        """The broker would not have this one."""
        if self._tokens is not None:
            self._tokens.refused(token)

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _enrol(
        self,
        path: str,
        query: Query,
        name: str,
        body: Mapping[str, Any],
        model: type[WireVen] | type[WireResource],
    ) -> str:
        """Look an object up by its name, else create it. Whoever was faster than we counts, too."""
        found = await self._named(path, query, name, model)
        if found is not None:
            return found
        try:
            return _usable(await self._ask("POST", path, body=body), model, path).id
        except StatusError as error:
            if error.status != _CONFLICT:
                raise
            found = await self._named(path, query, name, model)
            if found is None:
                raise WireError(
                    f"the name {name!r} is somebody else's at the VTN: {error}"
                ) from error
            return found

    async def _named(
        self, path: str, query: Query, name: str, model: type[WireVen] | type[WireResource]
    ) -> str | None:
        for document in await self._list(path, query):
            read = read_object(model, document, path)
            if not isinstance(read, RejectedObject) and read.name == name:
                return read.id
        return None

    async def _list(self, path: str, query: Query) -> list[Any]:
        """All pages of a list. The last is the one that brings nothing new: a short page may be short
        because the server's own pages are.
        """
        found: dict[object, Any] = {}
        before = self._http.received_bytes
        for _ in range(MOST_PAGES):
            page = [*query, ("skip", str(len(found))), ("limit", str(PAGE))]
            answer = await self._ask("GET", path, query=page)
            if not isinstance(answer, list):
                raise WireError(f"the VTN answered a request for {path} with no list")
            known = len(found)
            if known + len(answer) > PAGE * MOST_PAGES:
                break
            if self._http.received_bytes - before > MOST_LISTED * self._settings.max_bytes:
                said = f"more than {MOST_LISTED * self._settings.max_bytes} bytes"
                raise WireError(f"the VTN's list of {path} is of {said}")
            for document in answer:
                found[_identity(document)] = document
            if len(found) == known:
                return list(found.values())
        raise WireError(f"the VTN's list of {path} has no end")

    async def _ask(
        self, method: str, path: str, query: Query = (), body: Mapping[str, Any] | None = None
    ) -> Any:
        """One exchange; a token that is refused is renewed once."""
        url = f"{self._settings.vtn_url}/{path}"
        try:
            answer = await self._authorised(method, url, query, body)
        except UnreachableError:
            raise
        except WireError as error:
            self._link.reject(str(error))
            raise
        self._link.heard()
        return answer

    async def _authorised(
        self, method: str, url: str, query: Query, body: Mapping[str, Any] | None
    ) -> Any:
        if self._tokens is None:
            return await self._http.ask(method, url, query=query, body=body)
        token = await self._tokens.current()
        try:
            return await self._http.ask(method, url, query=query, body=body, token=token)
        except StatusError as error:
            if error.status not in _UNAUTHORISED:
                raise
            self._tokens.refused(token)
            token = await self._tokens.current()
            return await self._http.ask(method, url, query=query, body=body, token=token)


async def list_programs(settings: Ven3Settings, clock: Clock) -> list[Any]:
    """The VTN's programs, for trying the connection. Raises `WireError`, `ConfigError`."""
    client = Client(settings, clock, LinkKeeper(settings.name, settings.vtn_url, clock))
    try:
        return await client.programs()
    finally:
        await client.close()


def _usable(answer: Any, model: type[Object], kind: str) -> Object:
    read = read_object(model, answer, kind)
    if isinstance(read, RejectedObject):
        raise WireError(f"the VTN's answer is unusable: {read}")
    return read


def _identity(document: Any) -> object:
    """What tells objects of a list apart: their id, or else all of what they say."""
    object_id = document.get("id") if isinstance(document, dict) else None
    if isinstance(object_id, str | int) and str(object_id):
        return str(object_id)
    try:
        return "", repr(document)
    except RecursionError:
        return "", ""  # Nothing that is nested so deeply is of use, so one of them will do.
