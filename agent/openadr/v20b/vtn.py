"""A VTN of 2.0b: it may ask for a new registration at any time, and there may be signatures."""

from contextlib import suppress

from agent.clock import Clock
from agent.errors import NotRegisteredError, WireError
from agent.openadr.http import HttpTransport, Transport
from agent.openadr.standing import LinkKeeper
from agent.openadr.v20.messages import Code, Message, RequestReregistration, Response
from agent.openadr.v20.vtn import Reading, Vtn
from agent.openadr.v20b import writer
from agent.openadr.v20b.reader import read
from agent.openadr.v20b.settings import Ven20bSettings


class Vtn20b(Vtn):
    """Asks one VTN of 2.0b, over a transport."""

    async def _heed(self, message: Message, ven_id: str) -> None:
        if isinstance(message, RequestReregistration):
            await self._acknowledge(message, ven_id)

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
    return Vtn20b(through, link, settings.max_bytes, reading)


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
