"""From 2.0a's XML to the same values as 2.0b's.

What a message holds has the same names and places in both profiles. A 2.0a message stands alone,
though, without 2.0b's envelope, and its events know one signal: `simple`.
"""

from dataclasses import replace

from agent.errors import quote
from agent.openadr.v20.messages import Code, DistributeEvent, Message, RejectedEvent, WireEvent
from agent.openadr.v20.reader import understand
from agent.openadr.v20.xml import Roots, parse

NAMESPACE = "http://openadr.org/oadr-2.0a/2012/07"
ROOTS = Roots("OpenADR 2.0a", NAMESPACE, ("oadrDistributeEvent", "oadrResponse"))


def read(body: bytes, max_bytes: int) -> Message:
    """One message from its bytes. Raises `WireError`, and nothing else."""
    message = understand(parse(body, max_bytes, ROOTS))
    if not isinstance(message, DistributeEvent):
        return message
    return replace(message, events=tuple(_simple(event) for event in message.events))


def _simple(event: WireEvent | RejectedEvent) -> WireEvent | RejectedEvent:
    """The event with no signal but SIMPLE, or refused if it has only others (rule 48).

    Without units, which 2.0a lacks, no other signal could be understood.
    """
    if isinstance(event, RejectedEvent) or not event.signals:
        return event
    signals = tuple(signal for signal in event.signals if signal.name.upper() == "SIMPLE")
    if signals:
        return replace(event, signals=signals)
    why = (
        f"event {quote(event.event_id)}: its signal is {quote(event.signals[0].name)}, "
        "and OpenADR 2.0a knows SIMPLE only"
    )
    return RejectedEvent(
        event.event_id,
        event.revision,
        event.cancelled,
        event.response_required,
        Code.SIGNAL_NOT_SUPPORTED,
        why,
    )
