"""A VTN as its VEN sees it: something to ask."""

import asyncio
from collections.abc import Callable

from agent.errors import NotRegisteredError, UnreachableError, WireError
from agent.openadr.http import BusyError, StatusError, Transport
from agent.openadr.standing import LinkKeeper
from agent.openadr.v20.messages import Code, Message, Response

Reading = Callable[[bytes, int], Message]
"""Makes a message of at most so many bytes. Raises `WireError`."""

_SHORT_BYTES = 4_096
"""What is no longer is read in less time than it takes to hand it to a thread."""


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
        read: Reading,
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
        await self._heed(message, ven_id)
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

    async def _heed(self, message: Message, ven_id: str) -> None:
        """Where a profile lets a VTN ask for something in place of an answer: see to it."""
