"""The operator's hand on the agent: a local Unix socket, one JSON object a line each way.

Everything that changes something comes this way and no other. The kernel says who is calling
(SO_PEERCRED); root, the agent's own user and the members of its group may, and what they do is
recorded with who, when and why. Opting out and the local stop win over everything.
"""

import asyncio
import json
import logging
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.control.keeper import Keeper
from agent.core.event import Ending, EventRecord, Opt, OptDecision
from agent.core.intake import reconsidered
from agent.core.lifecycle import cancelled, opted_in, opted_out
from agent.core.link import Departure
from agent.core.picture import Stop
from agent.core.policy import Policy
from agent.core.program import Program
from agent.errors import CommandError, ConfigError, StoreBusyError
from agent.places import socket_fault
from agent.store.audit import AuditLine

log = logging.getLogger(__name__)

LONGEST_LINE = 1 << 16
DEEDS = 100
"""How many of the operators' deeds are listed."""
_PEER = struct.Struct("3i")
_OPTED = {Opt.IN: "in to", Opt.OUT: "out of"}

Reply = dict[str, Any]


class Console:
    """Serves the control socket."""

    def __init__(
        self,
        path: Path,
        keeper: Keeper,
        clock: Clock,
        programs: tuple[Program, ...],
        policy: Callable[[], Policy],
        view: Callable[[], Reply | None],
        events: Callable[[], Awaitable[Sequence[Reply]]],
        changed: Callable[[Sequence[EventRecord]], None],
        vens: Sequence[str],
        moved: Callable[[str], None],
    ) -> None:
        """`policy` gives the site's rules as they are now; `changed` is called after every change, with
        the events whose opt it changed; `vens` are the names of those that there are; `moved` is called
        with one that is to leave its program, or to register.
        """
        self._path = path
        self._keeper = keeper
        self._clock = clock
        self._programs = programs
        self._policy = policy
        self._view = view
        self._events = events
        self._changed = changed
        self._vens = vens
        self._moved = moved
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, and finish a leaving that a crash cut short. Raises `StoreBusyError` when another agent
        already listens, and `ConfigError` when the path cannot be used: what is there is replaced only when
        it is a socket.
        """
        try:
            await self._listen()
        except OSError as error:
            said = f"{self._path} cannot be listened on: {error.strerror or error}"
            raise ConfigError(f"site.control_socket: {said}") from error
        await self._finish_leaving()

    async def _listen(self) -> None:
        fault = socket_fault(self._path)
        if fault is not None:
            raise ConfigError(f"site.control_socket: {fault}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if await _answers(self._path):
            raise StoreBusyError(f"another agent is listening on {self._path}")
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o117)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, self._path, limit=LONGEST_LINE
            )
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            if socket_fault(self._path) is None:
                self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._answer(reader, writer)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Reply:
        try:
            who = await _caller(writer.get_extra_info("socket"))
            async with asyncio.timeout(5.0):
                line = await reader.readline()
            request = json.loads(line)
            if not isinstance(request, dict):
                raise CommandError("a request is one JSON object")
            return {"ok": True, **await self._obey(request, who)}
        except CommandError as error:
            return {"ok": False, "error": str(error)}
        except TimeoutError:
            return {"ok": False, "error": "no request came within 5 s"}
        except ValueError as error:
            return {"ok": False, "error": f"the request is not one line of JSON: {error}"}

    async def _obey(self, request: Reply, who: str) -> Reply:
        command = request.get("command")
        why = str(request.get("why") or "no reason given")
        match command:
            case "status":
                view = self._view()
                if view is None:
                    raise CommandError("the agent has not completed its first cycle yet")
                return {"view": view}
            case "events":
                return {"events": await self._events()}
            case "deeds":
                return {"deeds": await self._deeds()}
            case "opt-out":
                return await self._opt(request, Opt.OUT, who, why)
            case "opt-in":
                return await self._opt(request, Opt.IN, who, why)
            case "pause":
                return await self._stop(who, why)
            case "resume":
                return await self._resume(who, why)
            case "deregister":
                return await self._leave(self._ven(request), who, why)
            case "register":
                return await self._join(self._ven(request), who, why)
            case _:
                raise CommandError(f"unknown command {command!r}")

    async def _deeds(self) -> list[Reply]:
        lines = await self._keeper.deeds(DEEDS)
        if lines is None:
            raise CommandError(
                "what operators did cannot be read: `flexload status` says what is wrong"
            )
        return [_deed(line) for line in lines]

    async def _opt(self, request: Reply, opt: Opt, who: str, why: str) -> Reply:
        record = self._find(str(request.get("event", "")), request.get("ven"))
        now = self._clock.now()
        if _over(record, now):
            raise CommandError(
                f"event {record.event.event_id!r} is over: opting {opt} would change nothing"
            )
        decided = replace(record, opt=OptDecision(opt, f"operator {who}", now, why))
        changed = opted_out(decided, now) if opt is Opt.OUT else opted_in(decided)
        which = f"{_OPTED[opt]} event {self._named(record)}"
        await self._keeper.put_events((changed,), AuditLine(now, who, f"opt {which}", why))
        log.warning("%s opted %s: %s", who, which, why)
        self._changed((changed,))
        said = f"opted {which}"
        if opt is Opt.IN and self._keeper.stop is not None:
            said += ", but the agent is stopped until `flexload resume`"
        return {"said": said}

    async def _stop(self, who: str, why: str) -> Reply:
        if self._keeper.stop is not None:
            raise CommandError(
                f"already stopped by {self._keeper.stop.by}: {self._keeper.stop.why}"
            )
        now = self._clock.now()
        await self._keeper.put_stop(Stop(now, who, why))
        await self._reconsider(AuditLine(now, who, "local stop", why))
        log.warning("%s stopped the agent: %s", who, why)
        return {"said": "stopped: everything held is let go, nothing new is set until resume"}

    async def _resume(self, who: str, why: str) -> Reply:
        if self._keeper.stop is None:
            raise CommandError("the agent is not stopped")
        now = self._clock.now()
        await self._keeper.put_stop(None)
        await self._reconsider(AuditLine(now, who, "local stop lifted", why))
        log.warning("%s lifted the local stop: %s", who, why)
        return {"said": "resumed: events under way are taken up again"}

    async def _leave(self, ven: str, who: str, why: str) -> Reply:
        """Take a VEN out of its program. Its events end as if the utility had cancelled them: nobody
        will tell of their end any more, and what they hold down is let go within its ramp.
        """
        known = self._keeper.departure(ven)
        if known is not None:
            raise CommandError(f"VEN {ven} has left already, by {known.by}: {known.why}")
        departure = Departure(self._clock.now(), who, why)
        await self._keeper.put_departure(ven, departure)
        ended = self._events_to_end(ven, departure.since)
        await self._keeper.put_events(
            ended, AuditLine(departure.since, who, f"VEN {ven} left", why)
        )
        log.warning("%s took VEN %s out of its program: %s", who, ven, why)
        self._changed(ended)
        self._moved(ven)
        count = len(ended)
        what = "there is no event of its to end"
        if count:
            what = f"its {count} event{' ends' if count == 1 else 's end'} within the ramps"
        said = f"VEN {ven} leaves: {what}; its VTN is told as soon as it can be reached"
        return {"said": f"{said} (`flexload status`); `flexload register {ven}` takes it back"}

    async def _finish_leaving(self) -> None:
        """End what a crash in the middle of leaving left of a VEN's events."""
        now = self._clock.now()
        for ven in self._vens:
            departure = self._keeper.departure(ven)
            ended = [] if departure is None else self._events_to_end(ven, now)
            if departure is not None and ended:
                what = f"events of VEN {ven}, which left, ended"
                line = AuditLine(now, departure.by, what, departure.why)
                await self._keeper.put_events(ended, line)

    def _events_to_end(self, ven: str, now: datetime) -> list[EventRecord]:
        return [
            cancelled(record, now)
            for (owner, _), record in self._keeper.records.items()
            if owner == ven and record.ended_by is not Ending.CANCELLED and not record.is_past(now)
        ]

    async def _join(self, ven: str, who: str, why: str) -> Reply:
        """Bring a VEN back into its program, or have one that waits to register do so now."""
        if self._keeper.departure(ven) is not None:
            now = self._clock.now()
            await self._keeper.put_departure(ven, None)
            await self._keeper.put_events((), AuditLine(now, who, f"VEN {ven} came back", why))
            log.warning("%s brought VEN %s back: %s", who, ven, why)
            said = f"VEN {ven} comes back into its program"
        else:
            said = f"VEN {ven} had not left: it registers now, unless it is registered"
        self._moved(ven)
        return {"said": f"{said}; `flexload status` says how it stands"}

    async def _reconsider(self, line: AuditLine) -> None:
        """Decide anew on every event, now that the site's rules have changed."""
        changed = [
            new
            for old in self._keeper.records.values()
            if (new := reconsidered(old, self._programs, self._policy(), line.at)) is not old
        ]
        await self._keeper.put_events(changed, line)
        self._changed(changed)

    def _ven(self, request: Reply) -> str:
        ven = request.get("ven")
        if ven not in self._vens:
            known = ", ".join(sorted(self._vens)) or "none"
            raise CommandError(f"no VEN {ven!r}; known: {known}")
        return str(ven)

    def _named(self, record: EventRecord) -> str:
        """An event's id, with its VEN where several know one of that id."""
        ven, event_id = record.key
        owners = [owner for owner, known in self._keeper.records if known == event_id]
        return event_id if len(owners) == 1 else f"{event_id} of VEN {ven}"

    def _find(self, event_id: str, ven: object) -> EventRecord:
        # A VEN that is gone from the configuration may have left events behind.
        vens = {*self._vens, *(owner for owner, _ in self._keeper.records)}
        if ven is not None and ven not in vens:
            raise CommandError(f"no VEN {ven!r}; known: {', '.join(sorted(vens)) or 'none'}")
        found = [
            record
            for (owner, known), record in self._keeper.records.items()
            if known == event_id and ven in (None, owner)
        ]
        if not found:
            of = "" if ven is None else f" of VEN {ven!r}"
            raise CommandError(f"no event {event_id!r}{of}; `flexload events` lists them")
        if len(found) > 1:
            owners = ", ".join(sorted(record.event.ven for record in found))
            raise CommandError(
                f"event {event_id!r} is known to several VENs ({owners}): name one with --ven"
            )
        return found[0]


def _over(record: EventRecord, now: datetime) -> bool:
    """Whether an event has ended, or was cancelled, even for a site that took part in it to the end."""
    event, taken = record.event, opted_in(record)
    ends = [] if taken.ended_at is None else [taken.ended_at]
    if event.duration is not None:
        ends.append(event.starts_at + record.start_shift + event.duration)
    return any(now >= end for end in ends)


def _deed(line: AuditLine) -> Reply:
    return {"at": line.at.isoformat(), "who": line.who, "what": line.what, "why": line.why}


async def _caller(connection: socket.socket) -> str:
    """The caller's user name, if it may command us. Raises `CommandError` when it may not."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, gid = _PEER.unpack(raw)
    # The system may have to ask a directory server, which takes its time.
    name, groups = await asyncio.to_thread(_identity, uid, gid)
    if uid not in (0, os.geteuid()) and os.getegid() not in groups:
        raise CommandError(f"user {name} may not command this agent")
    return name


def _identity(uid: int, gid: int) -> tuple[str, set[int]]:
    """A user's name and groups, as far as the system knows the user. May block."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return str(uid), {gid}
    return user.pw_name, {gid, *os.getgrouplist(user.pw_name, user.pw_gid)}


async def _answers(path: Path) -> bool:
    """Whether a live process listens on a socket; a stale file does not."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    return True
