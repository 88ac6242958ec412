"""Messages as the profile's own schema allows them, and beyond: Hypothesis strategies over the XSDs."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from hypothesis import strategies as st
from lxml import etree

from agent.openadr.v20.xml import openleadr_folder
from tests.openadr import wire

Element = Any
Draw = Callable[[st.SearchStrategy[Any]], Any]

XS = "{http://www.w3.org/2001/XMLSchema}"
OADR = "{http://openadr.org/oadr-2.0b/2012/07}"
DEEPEST = 8
"""Below this, only what must stand there does."""

IDS = ("a", "b", "00123", "1.5", "1e400", "true", "ven-1", "reg-2", "vtn", " spaced ", "x-y")
TIMES = (
    "2026-07-01T12:30:00Z",
    "2026-07-01T13:00:00Z",
    "2026-07-02T00:00:00",
    "2026-07-01T11:59:59.5Z",
)
LENGTHS = ("PT1H", "PT15M", "PT5M", "P1D", "PT0S", "PT90S", "P1DT2H", "1W")
VALUES: Mapping[str, tuple[str, ...]] = {
    "string": IDS,
    "token": IDS,
    "ID": ("id-1",),
    "anyURI": (wire.MARKET, "http://utility.example/other"),
    "dateTime": TIMES,
    "duration": LENGTHS,
    "boolean": ("true", "false", "1", "0"),
    "float": ("0", "1", "2", "0.5", "100", "-1", "1e3"),
    "double": ("0", "1.5"),
    "decimal": ("50", "0.5"),
    "unsignedInt": ("0", "1", "2", "3"),
    "unsignedByte": ("0", "1"),
    "int": ("0", "-1", "3"),
    "integer": ("0", "-1", "50"),
    "positiveInteger": ("1", "2"),
    "base64Binary": ("QUJD",),
}
"""By the built-in type, values of it."""
_ODD_WORDS = r"""
0 -0 -1 00 +7 1.0 1e400 -1e400 1e-400 0x10 1_0 NaN INF -INF Infinity nan 1,5 4294967295 4294967296 9999999999
true TRUE yes null None undefined x- x-odd P PT -PT1H P1Y2M3W4DT5H6M7.8S P9999Y P999999999999D PT0.000001S
1W -P1W PT1H30 P-1D PT1e3S PT,5S P99999999999W PT1M1H 2026-07-01T13:00:00+01:00 2026-07-01T13:00:00-14:00
2026-07-01T13:00:00+99:99 0000-01-01T00:00:00Z 0001-01-01T00:00:00+14:00 9999-12-31T23:59:59-14:00
-0044-03-15T12:00:00Z 10000-01-01T00:00:00Z 2026-02-30T00:00:00Z 2026-07-01T24:00:00Z 2026-06-30T23:59:60Z
2026-07-01T12:00:00.123456789123Z 2026-07-01 12:00 1970-01-01T00:00:00Z tomorrow cancelled completed active
SIMPLE simple LOAD_DISPATCH x-loadControlCapacity <b>&amp;</b> ]]> %s%n{0}{{7*7}}${jndi:ldap://x}
'; DROP TABLE events;-- ../../etc/passwd \x00 http://[::1 INVALID
"""
ODD = (
    *_ODD_WORDS.split(),
    *("", " ", "\n\t", "Cancelled ", "9" * 400, "PT" + "9" * 30 + "S", "a" * 70_000, "urn:" + "x" * 300),
    *("\u202e\u0645", "e\u0301\u0327", "\U0001f525" * 20, "\ufffd", "\u2028", "\u00a0", "\x85", "\ufeff"),
    *("\u0663", "\uff11\uff12", "\x7f"),
)  # fmt: skip
"""Values of no type in particular."""


class Schema:
    """The profile's schema: what may stand in each element."""

    def __init__(self) -> None:
        self._types: dict[str, Element] = {}
        self._elements: dict[str, Element] = {}
        self._members: dict[str, list[str]] = {}
        for path in sorted((openleadr_folder() / "schema").glob("*.xsd")):
            self._add(etree.parse(path).getroot())

    def _add(self, root: Element) -> None:
        for node in root.iterchildren(XS + "*"):
            tag = in_space_of(node)
            if node.tag == XS + "element":
                self._elements[tag] = node
                if head := node.get("substitutionGroup"):
                    self._members.setdefault(named(node, head), []).append(tag)
            elif node.tag in (XS + "complexType", XS + "simpleType"):
                self._types[tag] = node

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The names of all messages, without their namespace."""
        choice = next(self._elements[OADR + "oadrSignedObject"].iter(XS + "choice"))
        return tuple(node.get("ref").partition(":")[2] for node in choice)

    def message(self, draw: Draw, kind: str, oddity: int) -> Element:
        """A message, or what stands in one; of its texts, one in `oddity` is odd (0: none)."""
        return _Drawing(self, draw, oddity).element(OADR + kind, 0)

    def declared(self, tag: str) -> Element:
        """What declares a global element."""
        return self._elements[tag]

    def members(self, tag: str) -> list[str]:
        """What may stand for an abstract element; not whole Atom feeds."""
        return [
            member
            for member in self._members.get(tag, [])
            if "GB" not in member and not self._is_abstract(member)
        ]

    def _is_abstract(self, tag: str) -> bool:
        kind = self.type_of(self._elements[tag])
        return not isinstance(kind, str) and kind.get("abstract") == "true"

    def type_of(self, node: Element) -> Element | str:
        """The type that a declaration names or holds: its node, or the name of a built-in one."""
        inline = next(node.iterchildren(XS + "complexType", XS + "simpleType"), None)
        if inline is not None:
            return inline
        return self.type_named(node, node.get("type") or node.get("base") or "xs:string")

    def type_named(self, node: Element, name: str) -> Element | str:
        tag = named(node, name)
        return tag.removeprefix(XS) if tag.startswith(XS) else self._types[tag]


@cache
def schema() -> Schema:
    """Read once."""
    return Schema()


def named(node: Element, name: str) -> str:
    """A qualified name as lxml writes it."""
    prefix, _, local = name.rpartition(":")
    return f"{{{node.nsmap[prefix or None]}}}{local}"


def in_space_of(node: Element) -> str:
    """What a declaration's name is in full: in its schema's namespace."""
    space = node.getroottree().getroot().get("targetNamespace")
    return f"{{{space}}}{node.get('name')}"


_MANY = 1 << 24
"""Beyond it, Hypothesis prefers small numbers."""
_many = st.integers(0, _MANY - 1)


class _Drawing:
    """One message being drawn."""

    def __init__(self, of: Schema, draw: Draw, oddity: int) -> None:
        self._schema, self._draw, self._oddity = of, draw, oddity
        self._pool, self._room = 0, 1

    def _pick(self, of: Sequence[Any]) -> Any:
        """One of several. Many small choices are cut from one drawn number: each draw takes its time."""
        if self._room < len(of):
            self._pool, self._room = self._draw(_many), _MANY
        self._pool, index = divmod(self._pool, len(of))
        self._room //= len(of)
        return of[index]

    def element(self, tag: str, depth: int) -> Element | None:
        declared = self._schema.declared(tag)
        if declared.get("abstract") == "true":
            members = self._schema.members(tag)
            return self.element(self._pick(members), depth) if members else None
        return self._declared(declared, tag, depth)

    def _declared(self, declared: Element, tag: str, depth: int) -> Element:
        element = etree.Element(tag)
        if declared.get("fixed"):
            element.text = declared.get("fixed")
        elif declared.get("nillable") != "true" or declared.get("type"):
            self._fill(element, self._schema.type_of(declared), depth)
        return element

    def _fill(self, element: Element, kind: Element | str, depth: int) -> None:
        if isinstance(kind, str) or kind.tag == XS + "simpleType":
            element.text = self._text(kind)
            return
        for node in kind.iterchildren():
            if node.tag in (XS + "complexContent", XS + "simpleContent"):
                self._derived(element, node[-1], depth)
            elif node.tag in (XS + "sequence", XS + "choice"):
                self._group(element, node, depth)
            elif node.tag == XS + "attribute":
                self._attribute(element, node)

    def _derived(self, element: Element, node: Element, depth: int) -> None:
        self._fill(element, self._schema.type_named(node, node.get("base")), depth)
        for inner in node.iterchildren(XS + "sequence", XS + "choice"):
            self._group(element, inner, depth)

    def _attribute(self, element: Element, node: Element) -> None:
        if node.get("name") and self._pick((False, True)):
            element.set(in_space_of(node), self._text(self._schema.type_of(node)))

    def _group(self, element: Element, group: Element, depth: int) -> None:
        for _ in range(self._times(group, depth)):
            nodes = [n for n in group if n.tag in (XS + "element", XS + "sequence", XS + "choice")]
            if group.tag == XS + "choice":
                nodes = [self._pick(nodes)]
            for node in nodes:
                if node.tag == XS + "element":
                    self._children(element, node, depth)
                else:
                    self._group(element, node, depth)

    def _children(self, element: Element, node: Element, depth: int) -> None:
        for _ in range(self._times(node, depth)):
            if node.get("ref"):
                child = self.element(named(node, node.get("ref")), depth + 1)
            else:
                child = self._declared(node, in_space_of(node), depth + 1)
            if child is not None:
                element.append(child)

    def _times(self, node: Element, depth: int) -> int:
        least, most = int(node.get("minOccurs", 1)), node.get("maxOccurs", "1")
        if depth > DEEPEST:
            return least
        if most == "unbounded":
            return self._pick((1, 2, least if depth else 3))
        return self._pick(range(least, int(most) + 1)) if int(most) > least else least

    def _text(self, kind: Element | str) -> str:
        if self._oddity and self._pick(range(self._oddity)) == self._oddity - 1:
            return self._draw(odd_text)
        while not isinstance(kind, str):
            node = next(kind.iterchildren(XS + "restriction", XS + "union", XS + "list"))
            if several := node.get("memberTypes") or node.get("itemType"):
                kind = self._schema.type_named(node, several.split()[0])
                continue
            if values := [v.get("value") for v in node.iterchildren(XS + "enumeration")]:
                return self._pick(values)
            pattern = next((p.get("value") for p in node.iterchildren(XS + "pattern")), "")
            if pattern.startswith("["):
                return self._pick(("200", "200", "200", "452", "463", "000"))
            kind = "duration" if "P(" in pattern else self._schema.type_of(node)
        return self._pick(VALUES.get(kind, IDS))


def can_be_xml(text: str) -> bool:
    """Whether XML can hold a text at all."""
    return all(
        c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000"
        for c in text
    )


odd_text = st.one_of(st.sampled_from(ODD), st.text(max_size=12).filter(can_be_xml))
"""Something that should not stand where it stands."""


@st.composite
def messages(draw: Draw, kind: str, oddity: int = 8) -> Element:
    """A message of a kind, with the structure that the schema asks for."""
    return schema().message(draw, kind, oddity)
