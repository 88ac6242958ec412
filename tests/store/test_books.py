"""Events, ledger, history, registrations, facts and audit: what is put is there after a restart."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings

from agent.core.ledger import Lever
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.errors import StoreFullError
from agent.store.audit import Audit, AuditLine
from agent.store.events import EventBook
from agent.store.facts import Facts
from agent.store.history import History
from agent.store.ledger import Ledger
from agent.store.state import open_state
from tests.core.build import at, event, record
from tests.core.test_reconcile import entry
from tests.core.test_timeline import records
from tests.store.test_database import fill_up


@given(made=records())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_record_comes_back_as_it_was(tmp_path, made):
    database = open_state(tmp_path)
    EventBook(database).put(made)
    assert EventBook(database).records[made.key] == made
    database.close()


def test_an_event_that_finds_no_room_stays_in_memory_until_there_is_some(tmp_path):
    database = open_state(tmp_path)
    book = EventBook(database)
    fill_up(database)
    big = record(event(comment="x" * 100_000))
    with pytest.raises(StoreFullError):
        book.put(big)
    assert book.records[big.key] == big
    assert book.unsaved == 1
    database.query("PRAGMA max_page_count = 1000000")
    book.flush()
    assert book.unsaved == 0
    assert EventBook(database).records[big.key] == big
    database.close()


def test_an_unreadable_row_is_named_and_costs_no_other(tmp_path):
    database = open_state(tmp_path)
    EventBook(database).put(record(event(event_id="good")))
    with database.transaction() as connection:
        connection.execute("INSERT INTO events VALUES ('ven', 'bad', '{}')")
        connection.execute("INSERT INTO ledger VALUES ('cap', 'GPU-9', 'nonsense')")
    book = EventBook(database)
    assert [key[1] for key in book.records] == ["good"]
    assert "bad" in book.unreadable[0]
    assert "GPU-9" in Ledger(database).unreadable[0]
    database.close()


def test_events_long_over_can_be_forgotten(tmp_path):
    database = open_state(tmp_path)
    book = EventBook(database)
    book.put(record(event((60, 2), event_id="old")), record(event((0, 2), event_id="endless")))
    assert book.older_than(at(59)) == ()
    keys = book.older_than(at(61))
    assert [key[1] for key in keys] == ["old"]
    book.forget(keys)
    book.flush()
    assert [key[1] for key in EventBook(database).records] == ["endless"]
    database.close()


def test_the_ledger_keeps_one_entry_a_device_and_drops_it(tmp_path):
    database = open_state(tmp_path)
    ledger = Ledger(database)
    ledger.put([entry(0), entry(1)])
    ledger.put([entry(0, setpoint_w=450.0)])
    again = Ledger(database)
    assert {e.key: e.setpoint_w for e in again.entries} == {"GPU-0": 450.0, "GPU-1": 400.0}
    assert {e.lever for e in again.entries} == {Lever.CAP}
    again.drop([entry(0)])
    assert [e.key for e in Ledger(database).entries] == ["GPU-1"]
    database.close()


def test_a_ledger_that_cannot_be_written_says_so_and_believes_nothing(tmp_path):
    database = open_state(tmp_path)
    ledger = Ledger(database)
    fill_up(database)
    with pytest.raises(StoreFullError):
        ledger.put([entry(number, reason="x" * 10_000) for number in range(50)])
    assert ledger.entries == ()
    database.close()


def test_samples_come_back_in_order_and_within_the_window(tmp_path):
    history = History(tmp_path)
    samples = [
        Sample(at(n), 100.0 + n, MeterQuality.GOOD, 90.0, 80.0, override=n == 3, restrained=n == 4)
        for n in range(10)
    ]
    history.add(reversed(samples))
    assert list(history.between(at(2), at(7))) == samples[2:7]
    history.forget_before(at(5))
    assert list(history.between(at(0), at(99))) == samples[5:]
    history.close()


def test_a_sample_without_power_comes_back_without(tmp_path):
    history = History(tmp_path)
    blind = Sample(at(0), None, MeterQuality.BAD)
    history.add([blind])
    assert history.between(at(0), at(1)) == (blind,)
    history.close()


def test_facts_and_audit(tmp_path):
    database = open_state(tmp_path)
    facts = Facts(database)
    facts.put({"a": "1", "b": "2"})
    facts.put({"a": None})
    assert (facts.get("a"), facts.get("b")) == (None, "2")
    audit = Audit(database)
    lines = [
        AuditLine(at(0) + timedelta(microseconds=n), "ann", f"deed {n}", "why") for n in range(3)
    ]
    for line in lines:
        audit.add(line)
    assert audit.last(2) == (lines[2], lines[1])
    database.close()
