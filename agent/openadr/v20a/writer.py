"""The two messages that a 2.0a VEN sends. They are small enough to be built element by element."""

from collections.abc import Sequence
from typing import Any

from lxml import etree
from lxml.builder import ElementMaker

from agent.core.event import Opt
from agent.openadr.v20.messages import EventAnswer, Response, new_id
from agent.openadr.v20a.reader import NAMESPACE

_EI = "http://docs.oasis-open.org/ns/energyinterop/201110"
_PYLD = f"{_EI}/payloads"
_PREFIXES = {"oadr": NAMESPACE, "ei": _EI, "pyld": _PYLD}
_oadr = ElementMaker(namespace=NAMESPACE, nsmap=_PREFIXES)
_ei = ElementMaker(namespace=_EI, nsmap=_PREFIXES)
_pyld = ElementMaker(namespace=_PYLD, nsmap=_PREFIXES)


def request_event(ven_id: str) -> bytes:
    """An oadrRequestEvent for all events: a limited answer could not imply that others are gone."""
    request = _pyld.eiRequestEvent(_pyld.requestID(new_id()), _ei.venID(ven_id))
    return _bytes(_oadr.oadrRequestEvent(request))


def created_event(
    ven_id: str, request_id: str, answers: Sequence[EventAnswer], fault: Response | None = None
) -> bytes:
    """An oadrCreatedEvent answering each event; `request_id` is the oadrDistributeEvent's (rule 42).

    `fault` speaks for events that could not even be named. The whole message's own requestID stays
    empty where events have theirs.
    """
    whole = fault or Response(200, "OK")
    parts = [_ei.eiResponse(*_outcome(whole.code, whole.description, whole.request_id))]
    if answers:
        parts.append(_ei.eventResponses(*[_event_response(a, request_id) for a in answers]))
    return _bytes(_oadr.oadrCreatedEvent(_pyld.eiCreatedEvent(*parts, _ei.venID(ven_id))))


def _event_response(answer: EventAnswer, request_id: str) -> Any:
    return _ei.eventResponse(
        *_outcome(answer.code, answer.description, request_id),
        _ei.qualifiedEventID(
            _ei.eventID(answer.event_id), _ei.modificationNumber(str(answer.revision))
        ),
        _ei.optType("optIn" if answer.opt is Opt.IN else "optOut"),
    )


def _outcome(code: int, description: str, request_id: str) -> tuple[Any, Any, Any]:
    return (
        _ei.responseCode(f"{code:03d}"),
        _ei.responseDescription(description),
        _pyld.requestID(request_id),
    )


def _bytes(message: Any) -> bytes:
    return bytes(etree.tostring(message, xml_declaration=True, encoding="utf-8"))
