from datetime import UTC, datetime, timedelta

import pytest
from lxml import etree

from agent.core.event import Opt
from agent.errors import WireError
from agent.openadr.v20.messages import Code, EventAnswer, Response
from agent.openadr.v20.xml import check_outgoing, child, children, text
from agent.openadr.v20b import offers, writer
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.registrations import SentOpt

pytestmark = pytest.mark.openadr2

NASTY = "<&\"'>]]> ü \u2028"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
GOOD = "Quality Good - Non Specific"
SETTINGS = Ven20bSettings(kind="openadr-2.0b", name="ven", vtn_url="http://vtn.example/b")


def body_of(message: bytes):
    check_outgoing(message)
    return child(etree.fromstring(message), "oadrSignedObject")[0]


def datum(**changes):
    fields = {"start": NOW, "duration": timedelta(seconds=7), "r_id": NASTY, "quality": GOOD}
    return writer.Datum(**(fields | changes))


def report(*data):
    return writer.Report("report-1", NASTY, "usage", "TELEMETRY_USAGE", NOW, data)


@pytest.mark.parametrize(
    "message",
    [
        lambda: writer.poll(NASTY),
        lambda: writer.response(NASTY, Response(452, NASTY, NASTY)),
        writer.query_registration,
        lambda: writer.create_party_registration(NASTY, "", ""),
        lambda: writer.create_party_registration(NASTY, NASTY, NASTY),
        lambda: writer.canceled_party_registration(NASTY, NASTY, Response(200, "OK", NASTY)),
        lambda: writer.cancel_party_registration(NASTY, NASTY),
        lambda: writer.request_event(NASTY),
        lambda: writer.create_opt(
            NASTY, SentOpt(NASTY, Opt.IN, NASTY, 4_294_967_295), "participating", NASTY, NOW
        ),
        lambda: writer.create_opt(
            NASTY,
            SentOpt(NASTY, Opt.OUT, start=NOW, end=NOW + timedelta(days=400)),
            "x-schedule",
            NASTY,
            NOW,
        ),
        lambda: writer.cancel_opt(NASTY, NASTY),
        lambda: writer.created_event(NASTY, NASTY, [EventAnswer(NASTY, 4_294_967_295, Opt.IN)]),
        lambda: writer.created_event(NASTY, "", [], Response(454, NASTY, NASTY)),
        lambda: writer.register_report(NASTY, offers.metadata_of(SETTINGS, NOW), NASTY),
        lambda: writer.registered_report(NASTY, NASTY),
        lambda: writer.created_report(NASTY, Response(461, NASTY, NASTY), [NASTY, "0"]),
        lambda: writer.canceled_report(NASTY, Response(200, "OK", ""), []),
        lambda: writer.update_report(NASTY, report(datum(value="1e+09"), datum(duration=None))),
    ],
)
def test_every_message_is_valid_whatever_it_holds(message):
    root = body_of(message())
    assert "schemaLocation" not in etree.tostring(root).decode()  # 2.0b rule 45
    if root.tag.endswith("oadrPoll"):
        assert text(root, "venID") == NASTY


def test_what_would_not_be_valid_is_not_sent():
    with pytest.raises(WireError, match="not valid OpenADR"):
        writer.update_report("ven-1", report(datum(value="a lot")))


def test_status_is_a_resource_status_and_not_a_number():
    """V24: oadrPayloadResourceStatus with oadrOnline and oadrManualOverride (2.0b rule 510)."""
    status = writer.Status(online=True, override=False)
    root = body_of(writer.update_report("ven-1", report(datum(status=status))))
    payload = child(root, "oadrReport", "intervals", "interval", "oadrReportPayload")
    assert text(payload, "oadrPayloadResourceStatus", "oadrOnline") == "true"
    assert text(payload, "oadrPayloadResourceStatus", "oadrManualOverride") == "false"
    assert child(payload, "payloadFloat") is None


def test_a_registration_does_not_claim_a_transport_address():
    root = body_of(writer.create_party_registration("GPU site", "", ""))
    assert child(root, "oadrTransportAddress") is None
    assert text(root, "oadrHttpPullModel") == "true"
    assert text(root, "oadrXmlSignature") == "false"
    assert child(root, "registrationID") is None


def test_answers_on_events_stand_apart_each_with_its_own_code():
    answers = [
        EventAnswer("ev-1", 3, Opt.IN),
        EventAnswer("00123", 0, Opt.OUT, Code.INVALID_DATA, "no"),
    ]
    root = child(body_of(writer.created_event("ven-1", "dist-1", answers)), "eiCreatedEvent")
    responses = list(children(child(root, "eventResponses"), "eventResponse"))
    assert [text(r, "qualifiedEventID", "eventID") for r in responses] == ["ev-1", "00123"]
    assert [text(r, "optType") for r in responses] == ["optIn", "optOut"]
    assert [text(r, "responseCode") for r in responses] == ["200", "454"]


def described(settings=SETTINGS):
    """The offer, by report name: its descriptions by rID."""
    root = body_of(writer.register_report("ven-1", offers.metadata_of(settings, NOW)))
    return {
        text(report, "reportName"): {
            text(d, "rID"): d for d in children(report, "oadrReportDescription")
        }
        for report in children(root, "oadrReport")
    }


def test_rule_510_the_offer_is_usage_status_and_history_of_site_and_gpus():
    offer = described()
    assert {name: list(points) for name, points in offer.items()} == {
        "METADATA_TELEMETRY_USAGE": ["site-power", "site-energy", "gpus-power", "gpus-energy"],
        "METADATA_TELEMETRY_STATUS": ["site-status", "gpus-status"],
        "METADATA_HISTORY_USAGE": [
            "site-power-history",
            "site-energy-history",
            "gpus-power-history",
            "gpus-energy-history",
        ],
    }
    usage = offer["METADATA_TELEMETRY_USAGE"]
    assert text(usage["site-power"], "powerReal", "itemUnits") == "W"
    assert text(usage["gpus-energy"], "energyReal", "itemUnits") == "Wh"
    assert text(usage["site-power"], "reportDataSource", "resourceID") == "site"
    assert text(usage["gpus-power"], "reportDataSource", "resourceID") == "gpus"
    assert text(usage["site-power"], "oadrSamplingRate", "oadrMinPeriod") == "PT1S"
    assert text(usage["site-power"], "oadrSamplingRate", "oadrMaxPeriod") == "P1D"
    status = offer["METADATA_TELEMETRY_STATUS"]["gpus-status"]
    assert text(status, "reportType") == "x-resourceStatus"
    assert text(status, "reportDataSource", "resourceID") == "gpus"


def test_the_offer_names_the_one_market_context_and_what_is_left_out_is_not_offered():
    only = {"market_contexts": ("http://utility.example/fast-dr",), "gpus_resource": ""}
    usage = described(SETTINGS.model_copy(update=only))["METADATA_TELEMETRY_USAGE"]
    assert list(usage) == ["site-power", "site-energy"]
    assert text(usage["site-power"], "marketContext") == "http://utility.example/fast-dr"
    assert text(described()["METADATA_TELEMETRY_USAGE"]["site-power"], "marketContext") is None


def test_importing_the_ven_does_not_import_openleadr():
    import subprocess
    import sys

    code = (
        "import sys, agent.openadr.v20b.ven as v, agent.openadr.v20b.writer as w; w.poll('x');"
        "sys.exit('openleadr' in sys.modules or 'apscheduler' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
