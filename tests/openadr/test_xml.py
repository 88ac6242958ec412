import time

import pytest

from agent.errors import WireError
from agent.openadr.v20.messages import DistributeEvent, OadrResponse
from agent.openadr.v20.xml import parse
from agent.openadr.v20b.reader import read
from tests.openadr import wire

pytestmark = pytest.mark.openadr2

LIMIT = 2_000_000
ROOT = b'<oadrPayload xmlns="http://openadr.org/oadr-2.0b/2012/07"/>'
SEGFAULT = b'<!DOCTYPE a [<!ENTITY x "y">]><a xmlns="u">&x;</a>'
LAUGHS = (
    b"<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY a 'lol'>"
    + b"".join(b"<!ENTITY %c '%s'>" % (c, b"&%c;" % (c - 1) * 10) for c in b"bcdefghij")
    + b"]>"
    + ROOT.replace(b"/>", b">&j;</oadrPayload>")
)


@pytest.mark.parametrize(
    "body",
    [
        SEGFAULT,  # V9: any DTD entity kills a process that parses it with a schema
        LAUGHS,
        b"<!DOCTYPE oadrPayload SYSTEM 'file:///etc/passwd'>" + ROOT,
        b"<?xml version='1.0'?>\n<!-- x --><?pi y?>\n<!DOCTYPE a>" + ROOT,
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>".encode("utf-16"),
        b"<!doctype a>" + ROOT,
    ],
)
def test_a_document_type_is_refused_before_it_is_parsed(body):
    with pytest.raises(WireError, match="document type"):
        parse(body, LIMIT)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b"<html><body>Bad gateway</body></html>", "root is 'html'"),
        (b'{"error": "json"}', "not well-formed"),
        (b"<oadrPayload", "not well-formed"),
        (ROOT + b"<x/>", "not well-formed"),
        (b"\xff\xfe\x00", "not utf-16"),
        (b"<a>\xff</a>", "not utf-8 at byte 3"),
        (b"<?xml version='1.0' encoding='UTF-7'?>+ADwAIQ-DOCTYPE a+AD4-", "encoding 'utf-7'"),
        (b"<?xml version='1.0' encoding='cp037'?><a/>", "encoding 'cp037'"),
        (b"<?xml version='1.0'" + b" " * 300 + b"<a/>", "does not end"),
        (b"<!-- " + ROOT, "without its -->"),
        (b"<a>&nbsp;</a>", "not well-formed"),
        (b"<a>\x00</a>", "not well-formed"),
        (b"<oadrPayload/>", "root is 'oadrPayload'"),
        (b"<oadrPayload xmlns='http://openadr.org/oadr-2.0a/2012/07'/>", "2.0a"),
        (ROOT + b" " * LIMIT, "longer than 2000000 bytes"),
        (b"<a>" * 100_000, "not well-formed"),
    ],
)
def test_what_cannot_be_read_is_refused_with_one_sentence(body, why):
    with pytest.raises(WireError, match=why) as caught:
        parse(body, LIMIT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        wire.oadr_response(),
        b"\xef\xbb\xbf" + wire.oadr_response(),
        b"\r\n" + wire.oadr_response(),
        wire.oadr_response().decode().replace("utf-8", "UTF-16").encode("utf-16"),
        wire.oadr_response().replace(b"utf-8", b"ISO-8859-1"),
        wire.oadr_response().partition(b"?>")[2],
        wire.oadr_response().replace(b"?>", b"?><!-- <!DOCTYPE a> --><?p <!DOCTYPE a?>", 1),
    ],
)
def test_encodings_and_prologues_that_servers_use_are_read(body):
    assert isinstance(read(body, LIMIT), OadrResponse)


def test_text_that_only_looks_like_a_document_type_is_text():
    comment = "<![CDATA[<!DOCTYPE a>]]>"
    message = read(wire.distribute_event(wire.event(comment=comment)), LIMIT)
    assert isinstance(message, DistributeEvent)
    assert message.events[0].comment == "<!DOCTYPE a>"


def test_a_hostile_prologue_costs_no_more_than_its_length():
    body = b"<!---->" * (LIMIT // 7 - 10) + ROOT
    before = time.process_time()
    parse(body, LIMIT)
    assert time.process_time() - before < 2
