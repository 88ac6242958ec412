"""From the bytes of a 2.0b message to values."""

from collections.abc import Callable

from agent.errors import WireError
from agent.openadr.v20.messages import Message
from agent.openadr.v20.reader import understand
from agent.openadr.v20.xml import Element, child, parse

Opener = Callable[[Element], Element | None]
"""Gives the oadrSignedObject of a payload that is to be read, or raises `WireError`."""


def unsigned(payload: Element) -> Element | None:
    """The oadrSignedObject, whoever it is from."""
    return child(payload, "oadrSignedObject")


def read(body: bytes, max_bytes: int, opener: Opener = unsigned) -> Message:
    """One message from its bytes. Raises `WireError`, and nothing else.

    Nothing is read but what `opener` gives.
    """
    signed = opener(parse(body, max_bytes))
    message = None if signed is None else next(iter(signed), None)
    if message is None:
        raise WireError("the message has no content in its oadrSignedObject")
    return understand(message)
