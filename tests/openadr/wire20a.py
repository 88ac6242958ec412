"""What a 2.0a VTN says, written out by hand: 2.0b's pieces without 2.0b's envelope."""

from collections.abc import Iterable
from typing import Any

from tests.openadr import wire

_NAMESPACES = (
    'xmlns:oadr="http://openadr.org/oadr-2.0a/2012/07"'
    ' xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110"'
    ' xmlns:pyld="http://docs.oasis-open.org/ns/energyinterop/201110/payloads"'
    ' xmlns:emix="http://docs.oasis-open.org/ns/emix/2011/06"'
    ' xmlns:xcal="urn:ietf:params:xml:ns:icalendar-2.0"'
    ' xmlns:strm="urn:ietf:params:xml:ns:icalendar-2.0:stream"'
)


def message(name: str, inner: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<oadr:{name} {_NAMESPACES}>{inner}</oadr:{name}>'
    ).encode()


def oadr_response(code: int = 200, description: str = "OK") -> bytes:
    return message("oadrResponse", wire.ei_response(code, description))


def signal(
    level: object = 1,
    name: str = "simple",
    kind: str = "level",
    intervals: Iterable[str] | None = None,
) -> str:
    """With the currentValue that 2.0a requires."""
    pieces = [wire.interval(level)] if intervals is None else intervals
    current = "<ei:currentValue><ei:payloadFloat><ei:value>0.0</ei:value></ei:payloadFloat></ei:currentValue>"
    return wire.signal(name, kind, pieces, current)


def event(event_id: str = "ev-1", level: object = 1, **more: Any) -> str:
    return wire.event(event_id, **{"signals": [signal(level)], "notification": "PT0S", **more})


def distribute_event(
    *events: str, vtn_id: str = "vtn", request_id: str = "dist-1", response: str | None = None
) -> bytes:
    whole = wire.ei_response() if response is None else response
    return message(
        "oadrDistributeEvent",
        f"{whole}<pyld:requestID>{request_id}</pyld:requestID><ei:vtnID>{vtn_id}</ei:vtnID>"
        f"{''.join(events)}",
    )
