"""Ways to spoil a message: its elements, or the bytes that it is sent as."""

import gzip
from collections.abc import Callable

from hypothesis import strategies as st
from lxml import etree

from tests.openadr.odd import VALUES, Draw, Element, odd_text

DEEPEST = 230
"""The parser refuses a message nested deeper than 256 as a whole; what else is spoiled may add some."""
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
XINCLUDE = "{http://www.w3.org/2001/XInclude}"
SPACES = (
    "",
    "urn:nobody",
    "http://openadr.org/oadr-2.0a/2012/07",
    "http://docs.oasis-open.org/ns/energyinterop/201110",
    "urn:ietf:params:xml:ns:icalendar-2.0",
)


def _drop(draw: Draw, node: Element) -> None:
    node.getparent().remove(node)


def _double(draw: Draw, node: Element) -> None:
    node.addnext(etree.fromstring(etree.tostring(node, with_tail=False)))


def _reorder(draw: Draw, node: Element) -> None:
    node[:] = draw(st.permutations(list(node)))


def _rename(draw: Draw, node: Element) -> None:
    names = ("x", "value", "eventID", "interval", "duration", "eiEvent", "oadrEvent", "venID")
    node.tag = f"{{{etree.QName(node).namespace}}}{draw(st.sampled_from(names))}"


def _move_space(draw: Draw, node: Element) -> None:
    space, name = draw(st.sampled_from(SPACES)), etree.QName(node).localname
    node.tag = f"{{{space}}}{name}" if space else name


def _say(draw: Draw, node: Element) -> None:
    node.text = draw(odd_text)


def _say_soundly(draw: Draw, node: Element) -> None:
    node.text = draw(st.sampled_from(draw(st.sampled_from(tuple(VALUES.values())))))


def _say_between(draw: Draw, node: Element) -> None:
    node.tail = draw(odd_text)


def _as_cdata(draw: Draw, node: Element) -> None:
    node.text = etree.CDATA("<!DOCTYPE a>" if draw(st.booleans()) else " 0 ")


def _interrupt(draw: Draw, node: Element) -> None:
    what = (etree.Comment(" - "), etree.ProcessingInstruction("xml-stylesheet", 'href="file:///"'))
    inner = draw(st.sampled_from(what))
    inner.tail, node.text = node.text, draw(st.sampled_from((None, "1")))
    node.insert(0, inner)


def _nest(draw: Draw, node: Element) -> None:
    within = node
    room = DEEPEST - sum(1 for _ in node.iterancestors())
    for _ in range(min(room, draw(st.sampled_from((1, 50, DEEPEST))))):
        within = etree.SubElement(within, node.tag)
    within.text, node.text = node.text, None


def _swallow(draw: Draw, node: Element) -> None:
    parent = node.getparent()
    wrapper = etree.Element(parent.tag)
    parent.replace(node, wrapper)
    wrapper.append(node)


def _attribute(draw: Draw, node: Element) -> None:
    name, value = draw(
        st.sampled_from(
            (
                (XSI + "schemaLocation", "http://evil.example/ http://evil.example/a.xsd"),
                (XSI + "nil", "true"),
                (XSI + "type", "nobody:Type"),
                ("{http://www.w3.org/XML/1998/namespace}base", "file:///etc/"),
                ("{http://www.w3.org/XML/1998/namespace}space", "preserve"),
                ("id", "x" * 5_000),
            )
        )
    )
    node.set(name, value)


def _include(draw: Draw, node: Element) -> None:
    etree.SubElement(node, XINCLUDE + "include", href="file:///etc/passwd", parse="text")


def _multiply(draw: Draw, node: Element) -> None:
    one = etree.tostring(node, with_tail=False)
    if len(one) < 3_000:
        for _ in range(draw(st.sampled_from((20, 200)))):
            node.addnext(etree.fromstring(one))


TREE: tuple[Callable[[Draw, Element], None], ...] = (
    *(_drop, _drop, _double, _reorder, _rename, _move_space, _say, _say, _say, _say_soundly),
    *(_say_between, _as_cdata, _interrupt, _nest, _swallow, _attribute, _include, _multiply),
)


def spoil(draw: Draw, root: Element, least: int, most: int = 4) -> None:
    """Spoil some elements below `root`, which itself stays where it is."""
    for _ in range(draw(st.integers(least, most))):
        nodes = [node for node in root.iterdescendants() if isinstance(node.tag, str)]
        if nodes:
            draw(st.sampled_from(TREE))(draw, draw(st.sampled_from(nodes)))


def _cut(draw: Draw, body: bytes) -> bytes:
    return body[: draw(st.integers(0, len(body) - 1))]


def _behead(draw: Draw, body: bytes) -> bytes:
    return body[draw(st.integers(1, len(body) - 1)) :]


def _flip(draw: Draw, body: bytes) -> bytes:
    spoilt = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        spoilt[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(spoilt)


def _insert(draw: Draw, body: bytes) -> bytes:
    at = draw(st.integers(0, len(body)))
    what = draw(
        st.sampled_from(
            (
                *(
                    b"\x00",
                    b"\x1b[2J",
                    b"\xff",
                    b"\xc0\x80",
                    b"\xed\xa0\x80",
                    b"<",
                    b"&",
                    b"]]>",
                    b"-->",
                ),
                *(
                    b"&nbsp;",
                    b"&#0;",
                    b"&#x110000;",
                    b"&#xD800;",
                    b"&lt;",
                    b"<!-- -- -->",
                    b"<?xml?>",
                ),
                *(
                    b"<![CDATA[",
                    b"</x>",
                    b"<x>",
                    b"<x a='1' a='2'/>",
                    b"<nobody:x/>",
                    b"\xef\xbb\xbf",
                ),
                *(
                    b"<!DOCTYPE a>",
                    b"<!ENTITY x 'y'>",
                    b"&x;",
                    b"%x;",
                    b" " * 3_000,
                    b"\r",
                    b"\x0b",
                ),
            )
        )
    )
    return body[:at] + what + body[at:]


def _doctype(draw: Draw, body: bytes) -> bytes:
    document = draw(
        st.sampled_from(
            (
                b"<!DOCTYPE a [<!ENTITY x 'y'>]>",
                b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>",
                b"<!DOCTYPE a PUBLIC '-//x' 'http://127.0.0.1:1/x.dtd'>",
                b"<!DOCTYPE a [<!ENTITY % p SYSTEM 'file:///dev/zero'> %p;]>",
                b"<!DOCTYPE a [<!ATTLIST a b CDATA 'c'>]>",
                b"<!-- x --><!DOCTYPE a><?y z?>",
                b"<!doctype html>",
            )
        )
    )
    return document + b"\n" + body


def _encode(draw: Draw, body: bytes) -> bytes:
    text = body.decode()
    declared, used = draw(
        st.sampled_from(
            (
                *(
                    ("UTF-16", "utf-16"),
                    ("UTF-16", "utf-16-le"),
                    ("UTF-8", "utf-16"),
                    ("UTF-32", "utf-32"),
                ),
                *(
                    ("ISO-8859-1", "utf-8"),
                    ("US-ASCII", "utf-8"),
                    ("UTF-7", "utf-7"),
                    ("cp037", "cp037"),
                ),
                *(
                    ("windows-1252", "utf-8"),
                    ("no-such", "utf-8"),
                    ("", "utf-8"),
                    ("UTF-8", "utf-8-sig"),
                ),
                *(
                    ("idna", "utf-8"),
                    ("zlib_codec", "utf-8"),
                    ("EBCDIC-CP-US", "utf-8"),
                    ("x" * 50, "utf-8"),
                ),
            )
        )
    )
    standalone = draw(st.sampled_from(("", " standalone='yes'", " standalone='maybe'")))
    version = draw(st.sampled_from(("1.0", "1.0", "1.1", "2.0", "")))
    return f"<?xml version='{version}' encoding='{declared}'{standalone}?>{text}".encode(used)


def _wrap(draw: Draw, body: bytes) -> bytes:
    before, after = draw(
        st.sampled_from(
            (
                *(
                    (b"\xef\xbb\xbf", b""),
                    (b"\xff\xfe", b""),
                    (b"\r\n\r\n", b""),
                    (b"", b"\x00"),
                    (b"", body),
                ),
                *(
                    (b"<a>", b"</a>"),
                    (b"", b"<!-- -->"),
                    (b"", b"<?x?>"),
                    (b"", b"trailing"),
                    (b"{", b"}"),
                ),
                *(
                    (b"<!--", b"-->"),
                    (b"<?x ", b"?>"),
                    (b"--boundary\r\n", b"\r\n--boundary--"),
                    (b"\x00", b""),
                ),
            )
        )
    )
    return before + body + after


def _compress(draw: Draw, body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


BYTES: tuple[Callable[[Draw, bytes], bytes], ...] = (
    *(
        _cut,
        _cut,
        _behead,
        _flip,
        _flip,
        _insert,
        _insert,
        _insert,
        _doctype,
        _encode,
        _wrap,
        _compress,
    ),
)


def spoil_bytes(draw: Draw, body: bytes) -> bytes:
    """The bytes of a message, spoilt."""
    return draw(st.sampled_from(BYTES))(draw, body)
