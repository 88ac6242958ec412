"""XML at the border: parsing what strangers send, and checking what we send.

Strict out: every message of ours is valid against the profile's schema before it leaves. Lenient
in: what a VTN sends need only be well-formed and small, without a document type, with the right
root; its meaning is `reader`'s to find. Never hand received bytes to a parser that has a schema:
one DTD entity makes lxml 5.4-6.1 crash the process then.
"""

import importlib.util
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

from agent.errors import WireError

Element = Any
"""An lxml element; lxml has no types of its own."""


@dataclass(frozen=True, slots=True)
class Roots:
    """What the messages of a profile begin with."""

    profile: str
    """`OpenADR 2.0b`."""
    namespace: str
    names: tuple[str, ...]


PAYLOAD = Roots("OpenADR 2.0b", "http://openadr.org/oadr-2.0b/2012/07", ("oadrPayload",))

_DECLARATION = re.compile(rb"<\?xml\b([^>]{0,200})\?>")
_ENCODING = re.compile(rb"""encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_SPACE = re.compile(r"[ \t\r\n]*")
_ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1252": "cp1252",
}
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

_schema_lock = threading.Lock()


def parse(body: bytes, max_bytes: int, roots: Roots = PAYLOAD) -> Element:
    """The root of a received message, one of `roots`. Raises `WireError` with one sentence.

    No entity is ever resolved, nothing is fetched, and a document type is refused before the parser
    sees it.
    """
    if not body.strip():
        raise WireError("the message is empty")
    if len(body) > max_bytes:
        raise WireError(f"the message is longer than {max_bytes} bytes")
    text = _decode(body)
    _refuse_doctype(text)
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        what = " ".join(str(getattr(error, "msg", error)).split())
        raise WireError(f"the message is not well-formed XML: {what}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise WireError("the message has a document type declaration, which is refused")
    if root.tag not in {f"{{{roots.namespace}}}{name}" for name in roots.names}:
        raise WireError(
            f"the message's root is {str(root.tag)[:80]!r}, "
            f"not {roots.profile}'s {' or '.join(roots.names)}"
        )
    return root


def check_outgoing(body: bytes) -> None:
    """Raise `WireError` when a message of ours is not valid against the profile's schema."""
    try:
        tree = etree.fromstring(body)
        with _schema_lock:
            _schema().assertValid(tree)
    except (etree.XMLSyntaxError, etree.DocumentInvalid) as error:
        why = "".join(c if c.isprintable() else " " for c in str(error))
        raise WireError(f"a message of ours is not valid OpenADR 2.0b: {why[:300]}") from error


@cache
def openleadr_folder() -> Path:
    """Where openleadr is installed, found without importing it: that would cost 18 MB."""
    spec = importlib.util.find_spec("openleadr")
    if spec is None or not spec.submodule_search_locations:
        raise WireError("the package openleadr is not installed")
    return Path(spec.submodule_search_locations[0])


def local_name(element: Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Element | None, name: str) -> Iterator[Element]:
    """Children by local name, whatever namespace the sender thought right."""
    if element is not None:
        yield from (node for node in element if local_name(node) == name)


def child(element: Element | None, *path: str) -> Element | None:
    """The first child by local name, and on down the path; None where it ends early."""
    for name in path:
        element = next(children(element, name), None)
    return element


def text(element: Element | None, *path: str) -> str | None:
    """The text at a path exactly as sent; None where there is no such element."""
    found = child(element, *path)
    return None if found is None else (found.text or "")


def _decode(body: bytes) -> str:
    """The message as text without its XML declaration, read in the encoding it declares."""
    body = body.lstrip(b" \t\r\n")
    encoding = next((e for bom, e in _BOMS.items() if body.startswith(bom)), None)
    declaration = _DECLARATION.match(body)
    if encoding is None and declaration and (declared := _ENCODING.search(declaration[1])):
        name = declared[1].decode("ascii").lower()
        encoding = _ENCODINGS.get(name)
        if encoding is None:
            raise WireError(f"the message declares the encoding {name!r}, which is not supported")
    try:
        decoded = body.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"the message is not {encoding or 'utf-8'} at byte {error.start}") from None
    if decoded.startswith("<?xml"):
        end = decoded.find("?>", 0, 250)
        if end < 0:
            raise WireError("the message's XML declaration does not end")
        decoded = decoded[end + 2 :]
    return decoded


def _refuse_doctype(message: str) -> None:
    """A document type can only stand before the root element, among comments and instructions."""
    position = 0
    while True:
        position = _SPACE.match(message, position).end()  # type: ignore[union-attr]
        if message[position : position + 9].upper() == "<!DOCTYPE":
            raise WireError("the message has a document type declaration, which is refused")
        for opening, closing in (("<!--", "-->"), ("<?", "?>")):
            if message.startswith(opening, position):
                end = message.find(closing, position + len(opening))
                if end < 0:
                    raise WireError(f"the message has a {opening} without its {closing}")
                position = end + len(closing)
                break
        else:
            return


@cache
def _schema() -> Any:
    return etree.XMLSchema(etree.parse(openleadr_folder() / "schema" / "oadr_20b.xsd"))
