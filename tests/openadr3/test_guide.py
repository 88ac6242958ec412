"""The cases of the User Guide of 3.1.0 (sections 7 and 8), with words and values of our own.

`guide.json` holds one for each of its 47 examples, in their shapes, sloppy ones included: a date
alone, a time alone, no objectType, `payLoadType`, points, report-only events.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from agent.openadr.v3.translate import Translation, Translator
from agent.openadr.v3.wire import (
    WireEvent,
    WirePayload,
    WireProgram,
    WireReportDescriptor,
    WireResource,
    WireVen,
    read_object,
    read_objects,
)

pytestmark = pytest.mark.openadr3

CASES = json.loads((Path(__file__).parent / "guide.json").read_text())
MODELS = {
    "program": WireProgram,
    "event": WireEvent,
    "ven": WireVen,
    "resource": WireResource,
    "reportDescriptor": WireReportDescriptor,
}
NOW = datetime(2027, 3, 4, 12, tzinfo=UTC)
EVENTS = [case for case in CASES if case["kind"] == "event"]


def cases(*kinds):
    found = [case for case in CASES if case["kind"] in kinds]
    return pytest.mark.parametrize("case", found, ids=[case["case"] for case in found])


def listed(case):
    """As a VTN lists it: with an id, which the examples of requests have not."""
    return {"id": f"example-{case['case'].replace('.', '-')}", **case["body"]}


def test_there_is_a_case_for_each_of_the_guides_examples():
    assert len({case["case"] for case in CASES}) == 47


@cases("program", "ven", "resource", "reportDescriptor")
def test_every_other_object_is_read(case):
    model = MODELS[case["kind"]]
    read = read_object(model, listed(case), case["kind"])
    assert isinstance(read, model), read


@cases("payload")
def test_a_curve_of_points_is_read(case):
    payload = TypeAdapter(WirePayload).validate_python(case["body"])
    assert len(payload.listed) == len(case["body"]["values"])


@cases("event")
def test_every_event_is_accepted_with_the_right_timeline(case):
    wire = read_object(WireEvent, listed(case), "event")
    assert isinstance(wire, WireEvent), wire
    found = Translator("ven").translate(wire, NOW)
    assert isinstance(found, Translation), found
    signals = [] if found.event is None else found.event.signals
    assert [[s.name, s.kind.value, [_plain(i) for i in s.intervals]] for s in signals] == case[
        "signals"
    ]
    asked, unreadable = read_objects(WireReportDescriptor, wire.report_descriptors or (), "")
    assert ([d.payload_type for d in asked], unreadable) == (case.get("reports", []), ())


def test_one_list_of_all_of_them_loses_none():
    good, bad = read_objects(WireEvent, [listed(case) for case in EVENTS], "event")
    assert (len(good), bad) == (len(EVENTS), ())


def _plain(interval):
    stamps = [
        None if t is None else f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in (interval.start, interval.end)
    ]
    return [*stamps, interval.value]
