"""A scripted 2.0a VTN, as openleadr has none. What a VEN may send it is written down here by hand."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lxml import etree

from agent.errors import WireError
from agent.openadr.v20.xml import local_name
from tests.openadr import wire20a
from tests.openadr.vtn import Received, ScriptedVtn

PREFIX = "/OpenADR2/Simple"
_PREFIXES = {
    "http://openadr.org/oadr-2.0a/2012/07": "oadr",
    "http://docs.oasis-open.org/ns/energyinterop/201110": "ei",
    "http://docs.oasis-open.org/ns/energyinterop/201110/payloads": "pyld",
}
_OUTCOME = "ei:responseCode (ei:responseDescription )?pyld:requestID "
_CONTENT: Mapping[str, str] = {
    "oadr:oadrRequestEvent": "pyld:eiRequestEvent ",
    "pyld:eiRequestEvent": "pyld:requestID ei:venID (pyld:replyLimit )?",
    "oadr:oadrCreatedEvent": "pyld:eiCreatedEvent ",
    "pyld:eiCreatedEvent": "ei:eiResponse (ei:eventResponses )?ei:venID ",
    "ei:eiResponse": _OUTCOME,
    "ei:eventResponses": "(ei:eventResponse )*",
    "ei:eventResponse": f"{_OUTCOME}ei:qualifiedEventID ei:optType ",
    "ei:qualifiedEventID": "ei:eventID ei:modificationNumber ",
}
"""By element: its children, in order, each followed by a space."""
_TEXTS: Mapping[str, str] = {
    "pyld:requestID": ".*",
    "pyld:replyLimit": "[0-9]+",
    "ei:venID": ".+",
    "ei:responseCode": "[0-9]{3}",
    "ei:responseDescription": ".*",
    "ei:eventID": ".+",
    "ei:modificationNumber": "[0-9]+",
    "ei:optType": "optIn|optOut",
}


def check(element: Any) -> None:
    """Raise `WireError` where an element is not as the 2.0a profile has it."""
    name = _name(element)
    if element.attrib:
        raise WireError(f"{name} has attributes")
    if name in _TEXTS:
        if len(element) or not re.fullmatch(_TEXTS[name], element.text or "", re.DOTALL):
            raise WireError(f"{name} holds {element.text!r}")
        return
    names = "".join(f"{_name(node)} " for node in element)
    if name not in _CONTENT or not re.fullmatch(_CONTENT[name], names):
        raise WireError(f"{name} holds {names or 'nothing'}")
    for node in element:
        check(node)


def _name(element: Any) -> str:
    namespace = etree.QName(element).namespace
    return f"{_PREFIXES.get(namespace, namespace)}:{local_name(element)}"


@dataclass
class ScriptedVtn20a(ScriptedVtn):
    """Answers as scripted, and else a request with its events and an answer with its thanks."""

    prefix: str = PREFIX

    def _check(self, body: bytes) -> None:
        root = etree.fromstring(body)
        if _name(root) not in ("oadr:oadrRequestEvent", "oadr:oadrCreatedEvent"):
            raise WireError(f"{_name(root)} is no message of a 2.0a VEN")
        check(root)

    def _message(self, body: bytes) -> Any:
        return etree.fromstring(body)

    def _default(self, received: Received) -> bytes:
        if received.kind == "oadrRequestEvent":
            return wire20a.distribute_event(*self.events, request_id="list-1")
        return wire20a.oadr_response()
