"""Whether the agent could talk to its VTN, found step by step; the first that fails ends it.

It registers nothing and answers no event: that is the agent's, once it runs.
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from agent.clock import SystemClock
from agent.enrolment.handshake import (
    Fault,
    alert_of,
    overhear,
    refusal,
    shake_hands,
    speaks_tls,
    was_dropped,
)
from agent.enrolment.question import question_of, usual_path, without_certificate
from agent.enrolment.step import State, Step
from agent.errors import ConfigError, UnreachableError, WireError
from agent.openadr.http import StatusError
from agent.openadr.settings import VenSettings
from agent.units import format_duration

CLOCK_S = 5.0
"""Further apart than this, events begin late, and signed messages are refused."""
SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back for one query."""

    body: bytes
    judge: Callable[[bytes], Step] | None
    """What to make of it; None where there is none."""
    error: WireError | ConfigError | None
    offset_s: float | None
    """By how much the server's Date is ahead of our clock, s; None without one."""


async def check_connection(settings: VenSettings) -> AsyncIterator[Step]:
    """The steps, as they are taken. Without `cert` in the settings none is shown to the VTN."""
    async with aclosing(_steps(settings)) as steps:
        async for step in steps:
            yield step
            if not step.good:
                return


async def _steps(settings: VenSettings) -> AsyncGenerator[Step, None]:
    """All of them; it is not asked for more after one that failed."""
    url = urlsplit(settings.vtn_url)
    host, secure = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if secure else 80)
    named = settings.vtn_host or host
    yield _address(settings.vtn_url, url.path, usual_path(settings))
    step, addresses = await _look_up(host, port, settings.timeout_s)
    yield step
    step, address = await _reach(addresses, port, settings.timeout_s)
    yield step
    if secure:
        for step in await _encrypt(settings, named, address, port):
            yield step
    answer = await _ask(settings)
    silent = isinstance(answer.error, UnreachableError) and not isinstance(
        answer.error, StatusError
    )
    if secure:
        overheard = await overhear(settings, named, address, port) if silent else ""
        yield await _certificate(settings, answer, overheard, silent=silent)
    elif silent and await speaks_tls(settings, named, address, port):
        text, remedy = "the server speaks TLS there", "write https:// in vtn_url, not http://"
        yield Step("HTTP", State.FAIL, text, remedy)
    yield _http(answer, usual_path(settings))
    if answer.judge is not None:
        yield answer.judge(answer.body)
    if answer.offset_s is not None:
        yield _clock(answer.offset_s)


def _address(url: str, path: str, usual: str) -> Step:
    if not path.endswith(usual):
        said = f"{url} does not end in {usual}, as the profile has it"
        return Step("address", State.NOTE, said)
    return Step("address", State.OK, url)


async def _look_up(host: str, port: int, timeout_s: float) -> tuple[Step, list[str]]:
    name, remedy = "name", "check vtn_url for a typing error, and this host's name servers"
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except TimeoutError:
        text = f"{host}: no name server answered within {timeout_s:g} s"
        return Step(name, State.FAIL, text, remedy), []
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "is no host's name"
        return Step(name, State.FAIL, f"{host}: {why}", remedy), []
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    return Step(name, State.OK, f"{host} is {', '.join(addresses)}"), addresses


async def _reach(addresses: list[str], port: int, timeout_s: float) -> tuple[Step, str]:
    """The first address that answers; where none does, what the last had to say."""
    text = remedy = ""
    for address in addresses:
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            text = f"{place} does not answer within {timeout_s:g} s"
            remedy = "a firewall, here or at the utility: ask both for the way to that port"
        except OSError as error:
            text = f"{place}: {os.strerror(error.errno) if error.errno else error}"
            remedy = "check this host's network and its way out"
            if error.errno == errno.ECONNREFUSED:
                remedy = "check the port in vtn_url; else the VTN is down: nothing listens there"
        else:
            writer.transport.abort()
            return Step("TCP", State.OK, f"{place} answers"), address
    return Step("TCP", State.FAIL, text, remedy), ""


async def _encrypt(settings: VenSettings, named: str, address: str, port: int) -> list[Step]:
    name, now = "TLS", SystemClock().now()
    try:
        hands = await shake_hands(settings, named, address, port, now)
    except ConfigError as error:
        return [Step(name, State.FAIL, str(error))]
    if isinstance(hands, Fault):
        return [Step(name, hands.state, hands.text, hands.remedy)]
    steps, server = [Step(name, State.OK, f"{hands.version} with {hands.cipher}")], hands.server
    if server is not None:
        text = f'"{server.subject}" by "{server.issuer}", until {server.ends:%Y-%m-%d}'
        soon = server.ends - now < SOON
        text += f", which is in {format_duration(server.ends - now)}" if soon else ""
        steps.append(Step("server", State.NOTE if soon else State.OK, text))
    return steps


async def _ask(settings: VenSettings) -> _Answer:
    """Ask the VTN, as the agent would."""
    witness = _Witness()
    try:
        asked = question_of(settings, witness)
        try:
            body = await asked.transport.post(asked.service, asked.body)
        finally:
            await asked.transport.close()
    except (WireError, ConfigError) as error:
        return _Answer(b"", None, error, witness.offset_s)
    return _Answer(body, asked.judge, None, witness.offset_s)


async def _certificate(
    settings: VenSettings, answer: _Answer, overheard: str, *, silent: bool
) -> Step:
    """What became of our certificate."""
    name = "certificate"
    if silent:
        # TLS 1.3: the handshake was over for us before the server had looked at it.
        alert = alert_of(answer.error) or overheard
        if alert or was_dropped(answer.error):
            fault = refusal(alert, shown=settings.cert is not None)
            return Step(name, fault.state, fault.text, fault.remedy)
        return Step(name, State.NOTE, "the VTN has not said what it thinks of this VEN's")
    if settings.cert is None:
        return Step(name, State.NOTE, "none is shown, and the VTN does not ask for one")
    bare = await _ask(without_certificate(settings))
    if bare.error is None or isinstance(bare.error, StatusError):
        text = "the VTN answers without one, too: it does not look at this VEN's"
        return Step(name, State.NOTE, text)
    return Step(name, State.OK, "the VTN takes this VEN's, and answers nobody without one")


def _http(answer: _Answer, path: str) -> Step:
    error = answer.error
    if error is None:
        return Step("HTTP", State.OK, "the VTN answers")
    remedy = "ask the utility"
    if isinstance(error, StatusError):
        if error.status in (404, 405):
            remedy = f"the path in vtn_url is wrong: most end in {path}, without the service"
        elif error.status in (401, 403):
            remedy = (
                "the VTN does not let this VEN in: has the utility registered its fingerprint? "
                f"Or the path is wrong: most end in {path}"
            )
        elif error.status in (301, 302, 303, 307, 308):
            remedy = "it points elsewhere: ask the utility for the VTN's own address"
        elif error.status == 400:
            remedy = "a server that wants TLS says so to plain HTTP: try https:// in vtn_url"
        elif error.status >= 500:
            remedy = "the VTN has trouble of its own: try again, then ask the utility"
    elif "no whole answer" in str(error):
        remedy = "the VTN took the question and is stuck: try again, then ask the utility"
    return Step("HTTP", State.FAIL, str(error), remedy)


def _clock(offset_s: float) -> Step:
    if abs(offset_s) <= CLOCK_S:
        # A Date is whole seconds and was written before it travelled.
        return Step("clock", State.OK, f"the VTN's agrees to {max(1.0, abs(offset_s)):.0f} s")
    way = "ahead of" if offset_s > 0 else "behind"
    text = f"the VTN's is {abs(offset_s):.0f} s {way} this host's"
    return Step("clock", State.FAIL, text, "mend this host's clock (NTP), or tell the utility")


class _Witness(SystemClock):
    """This host's clock, and what a server says against it."""

    def __init__(self) -> None:
        super().__init__()
        self.offset_s: float | None = None

    def witness(self, at: datetime) -> None:
        """Somebody else's idea of now."""
        self.offset_s = (at - self.now()).total_seconds()
