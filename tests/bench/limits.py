"""A year of five-minute import limits as an OpenADR 3 event: read, resolved and looked up."""

import json
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from agent.core.capacity import connections_of, standing_obligations
from agent.core.event import EventRecord, Opt, OptDecision
from agent.core.timeline import Timeline
from agent.openadr.v3.bulk import uncollected
from agent.openadr.v3.translate import Translation, Translator
from agent.openadr.v3.wire import WireEvent, read_object
from tests.core.build import PROGRAM

LIMITS, CALLS, LOOK_UPS = 105_120, 5, 20_000
START = datetime(2027, 1, 1, tzinfo=UTC)


def figures() -> Iterator[dict[str, object]]:
    text = json.dumps(_year())
    read_ms, resolved_ms = [], []
    found = None
    for _ in range(CALLS):
        with uncollected():
            begun = time.perf_counter()
            wire = read_object(WireEvent, json.loads(text), "event")
            read_at = time.perf_counter()
            assert isinstance(wire, WireEvent)
            found = Translator("bench").translate(wire, START)
            resolved_at = time.perf_counter()
        read_ms.append((read_at - begun) * 1000)
        resolved_ms.append((resolved_at - read_at) * 1000)
    assert isinstance(found, Translation)
    assert found.event is not None
    record = EventRecord(found.event, START, OptDecision(Opt.IN, "policy", START, "bench"))
    yield _figure("read from 8.6 MB of JSON", statistics.median(read_ms), "ms")
    yield _figure("resolved", statistics.median(resolved_ms), "ms")
    yield _figure("looked up, mean", _look_up_us(record), "us")
    yield _figure("a day of them laid out for a cycle", _lay_out_ms(record), "ms")


def _year() -> dict[str, object]:
    """Each limit an interval of its own: the longest way to write it."""
    return {
        "id": "year",
        "programID": "bench",
        "intervalPeriod": {"start": START.isoformat(), "duration": "PT5M"},
        "intervals": [
            {"id": n, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [8000 + n % 997]}]}
            for n in range(LIMITS)
        ],
    }


def _look_up_us(record: EventRecord) -> float:
    connection = connections_of([record])["bench"]
    times = [START + timedelta(minutes=26 * n) for n in range(LOOK_UPS)]
    begun = time.perf_counter()
    for at in times:
        connection.limit_at(at)
    return (time.perf_counter() - begun) / LOOK_UPS * 1e6


def _lay_out_ms(record: EventRecord) -> float:
    took_ms = []
    for n in range(100):
        at = START + timedelta(hours=80 * n)
        begun = time.perf_counter()
        Timeline(tuple(standing_obligations([record], (PROGRAM,), at))).ceiling_at(at)
        took_ms.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took_ms)


def _figure(which: str, value: float, unit: str) -> dict[str, object]:
    return {"bench": f"{LIMITS} import limits, {which}", "value": round(value, 2), "unit": unit}
