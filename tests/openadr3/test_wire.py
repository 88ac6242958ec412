"""What is read leniently, and how one bad object is told from its neighbours."""

import pytest

from agent.openadr.v3.wire import (
    RejectedObject,
    WireEvent,
    WireProgram,
    WireReportDescriptor,
    read_object,
    read_objects,
)

pytestmark = pytest.mark.openadr3


def event(**changes):
    read = read_object(WireEvent, {"id": "ev-1", "programID": "p", **changes}, "event")
    assert isinstance(read, WireEvent), read
    return read


def test_unknown_fields_and_a_missing_object_type_are_no_fault():
    assert event(weather="fine", intervals=[{"id": 0, "payloads": [], "moon": 1}]).id == "ev-1"


def test_null_is_the_same_as_absent_everywhere():
    nulls = {
        "eventName": None,
        "createdDateTime": None,
        "priority": None,
        "duration": None,
        "targets": None,
        "intervalPeriod": None,
        "payloadDescriptors": None,
        "reportDescriptors": None,
    }
    assert event(**nulls, intervals=None) == event()
    inner = {"id": 0, "intervalPeriod": None, "payloads": None}
    assert event(intervals=[inner]) == event(intervals=[{"id": 0}])
    period = {"start": None, "duration": None, "randomizeStart": None}
    assert event(intervalPeriod=period) == event(intervalPeriod={})


def test_ids_may_be_numbers_and_stay_what_they_look_like():
    read = read_object(WireEvent, {"id": 17, "programID": 4}, "event")
    assert (read.id, read.program_id) == ("17", "4")
    assert event(id="0017").id == "0017"


def test_the_payload_type_may_be_spelt_as_in_the_guide():
    documents = [{"payLoadType": "USAGE"}, {"payloadType": "DEMAND"}]
    read, _ = read_objects(WireReportDescriptor, documents, "report descriptor")
    assert [d.payload_type for d in read] == ["USAGE", "DEMAND"]


def test_a_report_descriptor_without_numbers_has_the_defaults_of_the_document():
    read = read_object(WireReportDescriptor, {"payloadType": "USAGE", "repeat": "often"}, "")
    assert (read.start_interval, read.num_intervals, read.frequency, read.repeat) == (-1, -1, -1, 1)
    assert read.historical
    assert not read.aggregate


def test_a_value_outside_of_a_list_is_a_list_of_one():
    read = event(intervals=[{"id": 0, "payloads": [{"type": "SIMPLE", "values": 2}]}])
    assert read.intervals[0].payloads[0].listed == [2]


@pytest.mark.parametrize("priority", ["soon", True, [], {}, float("inf")])
def test_a_priority_that_is_no_number_is_none(priority):
    assert event(priority=priority).priority is None


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"programID": "p"}, "id"),
        ({"id": "", "programID": "p"}, "id"),
        ({"id": "ev-9", "intervals": 7}, "intervals"),
        (
            {"id": "ev-9", "intervals": [{"payloads": [{"values": [1]}]}]},
            "intervals.0.payloads.0.type",
        ),
        ({"id": "ev-9", "intervalPeriod": {"start": {}}}, "intervalPeriod.start"),
        ({"id": "ev-9", "payloadDescriptors": ["KW"]}, "payloadDescriptors.0"),
    ],
)
def test_a_bad_object_is_named_with_its_field(document, field):
    read = read_object(WireEvent, document, "event", place=4)
    assert isinstance(read, RejectedObject)
    assert read.field == field
    assert read.object_id == (document.get("id") or "#4")
    assert str(read).startswith(f"event {read.object_id!r}: {field}: ")


@pytest.mark.parametrize("document", [None, 7, "event", [], ["id"]])
def test_what_is_no_object_is_named_by_its_place(document):
    read = read_object(WireEvent, document, "event", place=2)
    assert isinstance(read, RejectedObject)
    assert read.object_id == "#2"


def test_one_bad_object_never_costs_its_neighbours():
    good, bad = read_objects(
        WireProgram,
        [{"id": "1", "programName": "a"}, {"id": "2"}, {"id": "3", "programName": "c"}],
        "program",
    )
    assert [p.name for p in good] == ["a", "c"]
    assert [(b.object_id, b.field) for b in bad] == [("2", "programName")]
