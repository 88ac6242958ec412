"""A VTN as its VEN sees it: something to ask."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from agent.clock import Clock
from agent.errors import UnreachableError, WireError
from agent.openadr.v20b import writer
from agent.openadr.v20b.http import BusyError, HttpTransport, StatusError, Transport
from agent.openadr.v20b.messages import Code, Message, RequestReregistration, Response
from agent.openadr.v20b.reader import read
from agent.openadr.v20b.settings import Ven20bSettings
from agent.openadr.v20b.standing import LinkKeeper

Reading = Callable[[bytes, int], Message]
"""Makes a message of at most so many bytes. Raises `WireError`."""

_SHORT_BYTES = 4_096
"""What is no longer is read in less time than it takes to hand it to a thread."""


class NotRegisteredError(WireError):
    """The VTN does not know this VEN, or wants it to register again."""


def is_answer(error: WireError) -> bool:
    """Whether a failure came from a VTN that is there: no silence, and no request for patience.

    HTTP 500, say: openleadr's server answers so to what it cannot read.
    """
    if isinstance(error, NotRegisteredError | BusyError):
        return False
    return isinstance(error, StatusError) or not isinstance(error, UnreachableError)


class Vtn:
    """Asks one VTN, over a transport."""

    def __init__(
        self,
        transport: Transport,
        link: LinkKeeper,
        max_bytes: int,
        read: Reading = read,
    ) -> None:
        """`read` makes a message of at most so many bytes: each profile has its own."""
        self._transport = transport
        self._link = link
        self._max_bytes = max_bytes
        self._read = read

    async def ask(self, service: str, body: bytes, ven_id: str = "") -> Message | None:
        """The VTN's answer; None when it is empty, as it may be to a mere acknowledgement.

        Raises `UnreachableError` when no answer came, `NotRegisteredError` when the answer is that
        `ven_id` must register, and `WireError` when it is unusable.
        """
        try:
            received = await self._transport.post(service, body)
            if not received:
                return None
            message = await self._parsed(received)
        except UnreachableError:
            raise
        except WireError as error:
            self._link.reject(str(error))
            raise
        self._link.heard()
        if isinstance(message, RequestReregistration):
            await self._acknowledge(message, ven_id)
        response = getattr(message, "response", None)
        if isinstance(response, Response) and response.code == Code.NOT_REGISTERED:
            raise NotRegisteredError(f"the VTN answered {response}")
        return message

    async def close(self) -> None:
        """Let go of connections."""
        await self._transport.close()

    async def _parsed(self, received: bytes) -> Message:
        if len(received) <= _SHORT_BYTES:
            return self._read(received, self._max_bytes)
        return await asyncio.to_thread(self._read, received, self._max_bytes)

    async def _acknowledge(self, message: RequestReregistration, ven_id: str) -> None:
        """Answer a request to register again, unless it is meant for somebody else."""
        if message.ven_id and message.ven_id.strip() != ven_id.strip():
            self._link.reject(f"a request to register again for VEN {message.ven_id[:60]!r}")
            answer = Response(Code.INVALID_ID, "not the venID of this VEN")
            await self._transport.post("EiRegisterParty", writer.response(ven_id, answer))
            return
        # Whether or not the acknowledgement arrives, there is only one thing to do now.
        with suppress(WireError):
            await self._transport.post(
                "EiRegisterParty", writer.response(ven_id, Response(200, "OK"))
            )
        raise NotRegisteredError("the VTN asked to register again")


def connect(
    settings: Ven20bSettings, clock: Clock, link: LinkKeeper, transport: Transport | None = None
) -> Vtn:
    """The VTN of the settings, with the signatures that they ask for. Nothing is sent yet.

    Raises `ConfigError` for certificates and keys that cannot be used.
    """
    through, reading = means_of(settings, clock, link, transport)
    return Vtn(through, link, settings.max_bytes, reading)


def means_of(
    settings: Ven20bSettings, clock: Clock, link: LinkKeeper, transport: Transport | None = None
) -> tuple[Transport, Reading]:
    """What carries messages to the VTN of the settings, and what reads its answers, as `connect`."""
    transport = transport or HttpTransport(settings, clock, link)
    reading: Reading = read
    # Either costs 9 MB, which only those pay who want it.
    if settings.sign:
        from agent.openadr.v20b.signing import Signer  # noqa: PLC0415

        transport = Signer(transport, settings, clock, link)
    if settings.vtn_fingerprint:
        from agent.openadr.v20b.verification import Verifier  # noqa: PLC0415

        reading = Verifier(settings, clock, link).read
    return transport, reading
