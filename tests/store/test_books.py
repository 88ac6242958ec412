"""Events, ledger, history, registrations, facts and audit: what is put is there after a restart."""

import threading
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings

from agent.core.ledger import Lever
from agent.errors import StoreFullError
from agent.store import audit as audit_module
from agent.store.audit import Audit, AuditLine
from agent.store.events import EventBook
from agent.store.facts import Facts
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


def test_of_two_that_write_at_once_the_later_word_is_on_disk(tmp_path, monkeypatch):
    database = open_state(tmp_path)
    book = EventBook(database)
    transaction = database.transaction
    waiting, go_on = threading.Event(), threading.Event()

    def preempted():
        if threading.current_thread().name == "first":
            waiting.set()
            go_on.wait()
        return transaction()

    monkeypatch.setattr(database, "transaction", preempted)
    book.hold(record(event(revision=1)))
    first = threading.Thread(target=book.flush, name="first")
    first.start()
    waiting.wait()
    book.put(record(event(revision=2)))
    go_on.set()
    first.join()
    assert book.unsaved == 0
    assert [r.event.revision for r in EventBook(database).records.values()] == [2]
    database.close()


def test_what_changes_while_it_is_written_is_written_again(tmp_path, monkeypatch):
    database = open_state(tmp_path)
    facts = Facts(database)
    write = facts._pending._write

    def and_meanwhile(connection, words):
        write(connection, words)
        facts.hold({"a": "2"})
        facts.hold({"a": "1"})

    monkeypatch.setattr(facts._pending, "_write", and_meanwhile)
    facts.put({"a": "1"})
    assert facts.unsaved == 1, "also when it says the same again"
    monkeypatch.undo()
    facts.flush()
    assert (facts.unsaved, Facts(database).get("a")) == (0, "1")
    database.close()


def test_facts_and_deeds_that_find_no_room_stay_in_memory_until_there_is_some(tmp_path):
    database = open_state(tmp_path)
    facts, audit = Facts(database), Audit(database)
    facts.put({"gone": "x", "kept": "x"})
    line = AuditLine(at(0), "ann", "pause", "x" * 100_000)
    fill_up(database)
    with pytest.raises(StoreFullError):
        facts.put({"new": "x" * 100_000, "gone": None})
    with pytest.raises(StoreFullError):
        audit.add(line)
    assert (facts.unsaved, audit.unsaved) == (2, 1)
    assert (len(facts.get("new")), facts.get("gone"), facts.get("kept")) == (100_000, None, "x")
    assert audit.last(5) == (line,)
    database.query("PRAGMA max_page_count = 1000000")
    facts.flush()
    audit.flush()
    assert (facts.unsaved, audit.unsaved) == (0, 0)
    assert len(Facts(database).get("new")) == 100_000
    assert Facts(database).get("gone") is None
    assert Audit(database).last(5) == (line,)
    database.close()


def test_no_more_than_so_many_wait_in_memory_and_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_module, "MOST_WAITING", 3)
    database = open_state(tmp_path)
    audit, facts = Audit(database), Facts(database, most=2)
    for number in range(5):
        audit.hold(AuditLine(at(number), "ann", f"deed {number}", "why"))
        facts.hold({f"fact {number}": "x"})
    facts.hold({"fact 3": "y", "fact 5": "x"})
    assert [line.what for line in audit.last(9)] == ["deed 4", "deed 3", "deed 2"]
    assert [facts.get(f"fact {number}") for number in (3, 4, 5)] == ["y", None, "x"]
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


def test_of_events_that_are_over_only_so_many_are_kept_of_each_ven(tmp_path):
    database = open_state(tmp_path)
    book = EventBook(database)
    book.put(*(record(event((n, 2), event_id=f"ev-{n}")) for n in (30, 10, 20)))
    book.put(record(event((10, 2), event_id="other", ven="b")))
    assert book.surplus(1, at(11)) == ()
    assert {key[1] for key in book.surplus(1, at(60))} == {"ev-10", "ev-20"}
    assert {key[1] for key in book.surplus(2, at(60))} == {"ev-10"}
    database.close()
