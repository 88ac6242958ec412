"""Hostile messages that somebody thought of: each has sunk a parser or a VEN somewhere, or would."""

from collections.abc import Iterator

from tests.openadr import wire
from tests.openadr.ordeal import HELD, SOUND, Case
from tests.openadr.test_xml import LAUGHS, SEGFAULT

OTHER = wire.event("other")
BROKEN = {
    "nothing": b"",
    "blanks": b" \r\n\t",
    "a null byte": b"\x00",
    "HTML": b"<!DOCTYPE html><html><body>Login</body></html>",
    "HTML without a document type": b"<html><body><h1>It works!</h1></body></html>",
    "JSON": b'{"error": "not found"}',
    "SOAP": b"<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body/></s:Envelope>",
    "an HTTP answer inside the answer": b"HTTP/1.1 200 OK\r\n\r\n" + wire.oadr_response(),
    "segmentation fault": SEGFAULT,
    "billion laughs": LAUGHS,
    "quadratic blow-up": b"<!DOCTYPE a [<!ENTITY x '" + b"x" * 50_000 + b"'>]><a>" + b"&x;" * 9_000 + b"</a>",
    "external entity": b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
    "parameter entity": b"<!DOCTYPE a [<!ENTITY % p SYSTEM 'http://127.0.0.1:1/'> %p;]><a/>",
    "document type in UTF-16": "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>".encode("utf-16"),
    "document type in UTF-7": b"<?xml version='1.0' encoding='UTF-7'?>+ADwAIQ-DOCTYPE a+AD4-",
    "unknown entity": wire.payload("<oadr:oadrResponse>&nbsp;</oadr:oadrResponse>"),
    "two roots": wire.oadr_response() + wire.oadr_response().partition(b"?>")[2],
    "half a message": wire.distribute_event(OTHER)[:900],
    "half a character": wire.distribute_event(wire.event("ü")).replace("ü".encode(), b"\xc3"),
    "overlong UTF-8": wire.distribute_event(OTHER).replace(b"other", b"\xc0\xaf"),
    "a surrogate": wire.distribute_event(OTHER).replace(b"other", b"\xed\xa0\x80"),
    "a null reference": wire.distribute_event(OTHER).replace(b"other", b"&#0;"),
    "an escape character": wire.distribute_event(OTHER).replace(b"other", b"\x1b[2J"),
    "an open comment": wire.oadr_response().replace(b"<oadr:oadrSigned", b"<!-- <oadr:oadrSigned"),
    "an attribute twice": wire.payload("<oadr:oadrResponse a='1' a='2'/>"),
    "a prefix nobody declared": wire.payload("<nobody:oadrResponse/>"),
    "nested a hundred thousand deep": b"<a>" * 100_000 + b"</a>" * 100_000,
    "nested in a message": wire.payload("<oadr:x>" * 5_000 + "</oadr:x>" * 5_000),
    "a hundred thousand attributes": wire.payload(
        "<oadr:oadrResponse " + " ".join(f"a{n}=''" for n in range(100_000)) + "/>"
    ),
    "a hundred thousand namespaces": wire.payload(
        "<oadr:oadrResponse " + " ".join(f"xmlns:a{n}='u'" for n in range(20_000)) + "/>"
    ),
    "three megabytes of blanks": wire.oadr_response() + b" " * 3_000_000,
    "a long name": b"<" + b"a" * 1_500_000 + b"/>",
    "a long text": wire.payload("<oadr:oadrResponse>" + "x" * 1_900_000 + "</oadr:oadrResponse>"),
    "an unfinished declaration": b"<?xml version='1.0'" + b" " * 5_000 + b"<a/>",
    "2.0a": b"<oadrPayload xmlns='http://openadr.org/oadr-2.0a/2012/07'/>",
    "no root namespace": b"<oadrPayload><oadrSignedObject/></oadrPayload>",
    "an empty payload": b"<oadrPayload xmlns='http://openadr.org/oadr-2.0b/2012/07'/>",
    "an empty signed object": wire.payload(""),
    "only a comment": wire.payload("<!-- <oadr:oadrResponse/> -->"),
    "only text": wire.payload("oadrResponse"),
    "no response code": wire.oadr_response().replace(b"200", b""),
    "a worded response code": wire.oadr_response().replace(b"200", b"OK"),
    "a code in other digits": wire.oadr_response().replace(b"200", "\uff12\uff10\uff10".encode()),
    "a refusal": wire.oadr_response(469, "database down\n\x85\u2028 Traceback"),
    "a long refusal": wire.oadr_response(450, "x" * 500_000),
    "code 999": wire.oadr_response(999),
    "code 000": wire.oadr_response(0),
    "an error list": wire.distribute_event(response=wire.ei_response(469)),
    "an unknown kind": wire.payload("<oadr:oadrBrewCoffee/>"),
    "a kind in another namespace": wire.payload("<x:oadrResponse xmlns:x='urn:x'/>"),
    "a list from another VTN": wire.distribute_event(OTHER, vtn_id="another"),
    "an empty list from another VTN": wire.distribute_event(vtn_id="another"),
    "a list from no VTN": wire.distribute_event(vtn_id=""),
    "an event that cannot be named": wire.distribute_event("<oadr:oadrEvent/>"),
    "an event with a blank id": wire.distribute_event(wire.event("  ")),
    "re-registration of another VEN": wire.request_reregistration("ven-2"),
    "end of another registration": wire.cancel_party_registration("reg-2"),
    "end of another VEN's registration": wire.cancel_party_registration(ven_id="ven-2"),
    "end of a registration without ids": wire.cancel_party_registration("", ""),
    "an unasked registration": wire.created_party_registration("evil", "evil", "evil", "PT0S"),
    "cancelling unknown reports": wire.cancel_report(*(f"x{n}" for n in range(500)), follow=True),
    "cancelling no report": wire.cancel_report(),
    "more report requests than are served": wire.create_report(
        *(wire.report_request(f"r{n}", "status", ("site-status",), "P1D", "P1D") for n in range(200))
    ),
    "a report nobody offers": wire.create_report(wire.report_request("r", "x'\"<!--".replace("<", "&lt;"))),
    "reports since 1970": wire.create_report(
        wire.report_request("r", "status", ("site-status",), "PT1H", "PT1H", "1970-01-01T00:00:00Z")
    ),
    "reports until the end of time": wire.create_report(
        wire.report_request("r", back="PT0S", start="2999-12-31T00:00:00Z", duration="P36500D")
    ),
    "a report on nothing at all": wire.create_report("<oadr:oadrReportRequest/>"),
    "an unasked report answer": wire.updated_report(cancel=["rr-other"], follow=True),
}  # fmt: skip
"""By name, messages that change nothing whatsoever."""

SIGNALLESS = wire.event("other", signals=[])
EVENTS = {
    "modification number beyond the schema": wire.event("other", 4_294_967_296),
    "largest modification number": wire.event("other", 4_294_967_295),
    "negative modification number": wire.event("other", -1),
    "unknown event cancelled beyond the schema": wire.event("other", 9_999_999_999, "cancelled"),
    "an id of half a megabyte": wire.event("x" * 500_000),
    "an id of markup": wire.event("&lt;ei:eventID&gt;held&lt;/ei:eventID&gt;"),
    "an id that looks like the held one": wire.event("held "),
    "an id in other letters": wire.event("hеld"),  # noqa: RUF001 - a Cyrillic e
    "a comment of a megabyte": wire.event("other", comment="x" * 1_000_000),
    "nothing but an id": "<oadr:oadrEvent><ei:eiEvent><ei:eventDescriptor><ei:eventID>other</ei:eventID>"
    "</ei:eventDescriptor></ei:eiEvent></oadr:oadrEvent>",
    "no signals": SIGNALLESS,
    "a signal without intervals": wire.event("other", signals=[wire.signal(intervals=[])]),
    "a value that is no number": wire.event("other", signals=[wire.signal(intervals=[wire.interval("NaN")])]),
    "an infinite value": wire.event("other", signals=[wire.signal(intervals=[wire.interval("1e400")])]),
    "five thousand intervals": wire.event("other", signals=[wire.signal(intervals=[wire.interval()] * 5_000)]),
    "a start beyond the calendar": wire.event("other", start="9999-12-31T23:59:59-14:00"),
    "a start before the calendar": wire.event("other", start="0001-01-01T00:00:00+14:00"),
    "a start in the year 0": wire.event("other", start="0000-01-01T00:00:00Z"),
    "no end": wire.event("other", duration="P9999Y"),
    "a length beyond counting": wire.event("other", duration="P" + "9" * 12 + "Y"),
    "a negative length": wire.event("other", duration="-PT1H"),
    "randomised over ten thousand years": wire.event("other", start_after="P9999Y"),
    "a ramp of ages": wire.event("other", ramp_up="P9999Y", recovery="-P9999Y"),
    "an unknown status": wire.event("other", status="exploded"),
    "the same event, and different": wire.event("other") + wire.event("other", 0, start="2026-09-01T00:00:00Z"),
    "forty revisions, newest first": "".join(wire.event("other", n) for n in range(40, 0, -1)),
    "two thousand events without an id": "<oadr:oadrEvent/>" * 2_000,
    "two hundred sound events": "".join(wire.event(f"other-{n}") for n in range(200)),
    "one for somebody else": wire.event("other", target="<ei:venID>ven-2</ei:venID>"),
    "a stranger's element": "<x:y xmlns:x='urn:x'><x:z/></x:y>",
    "text between events": "not an event",
    "an instruction between events": "<?php system('id') ?>",
}  # fmt: skip
"""By name, odd events; a message that lists one lists the held and the sound event, too."""


def cases() -> Iterator[tuple[str, Case]]:
    """Every message, by name."""
    for name, body in BROKEN.items():
        yield name, Case(body)
    for name, event in EVENTS.items():
        yield name, Case(wire.distribute_event(HELD, event, SOUND), brings_sound=True)
        yield f"{name}, first", Case(wire.distribute_event(event, SOUND, HELD), brings_sound=True)
