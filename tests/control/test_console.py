"""The operator's hand: over a real Unix socket, checked, recorded, and stronger than any event."""

import asyncio
import json
import os
import socket
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control import console as module
from agent.control.console import Console
from agent.control.keeper import Keeper
from agent.core.event import Ending, Opt
from agent.core.lifecycle import Phase
from agent.core.link import Departure
from agent.errors import ConfigError, StoreBusyError, StoreError
from agent.store.audit import Audit
from agent.telemetry.event_view import events_of
from tests.control.live import Live


def console_of(site, path):
    def policy():
        stop = site.keeper.stop
        return site.policy if stop is None else replace(site.policy, stopped=stop.why)

    async def events():
        return events_of(site.pictures[-1])

    return Console(
        path,
        site.keeper,
        site.clock,
        (site.program,),
        policy,
        lambda: {"sentence": "all is well"} if site.pictures else None,
        events,
        site.changed.extend,
        ["ven", "idle"],
        site.moved.append,
    )


@pytest.fixture
async def live(tmp_path):
    site = await Live(tmp_path).start()
    site.changed = []
    site.moved = []
    site.console = console_of(site, tmp_path / "control.sock")
    await site.console.start()
    yield site
    await site.console.stop()
    site.close()


async def ask(live, line=None, **request):
    reader, writer = await asyncio.open_unix_connection(live.directory / "control.sock")
    writer.write(line if line is not None else json.dumps(request).encode() + b"\n")
    await writer.drain()
    reply = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return reply


async def test_only_the_agents_user_and_group_may_open_the_socket(live):
    mode = stat.S_IMODE((live.directory / "control.sock").stat().st_mode)
    assert mode == 0o660


async def test_status_is_the_view(live):
    assert "first cycle" in (await ask(live, command="status"))["error"]
    await live.run(1)
    assert (await ask(live, command="status"))["view"] == {"sentence": "all is well"}


async def test_all_events_are_listed_whole_however_many(live):
    for number in range(30):
        live.call(0.25, start_s=3600.0 * (number + 1), event_id=f"ev-{number}")
    await live.run(1)
    events = (await ask(live, command="events"))["events"]
    assert [one["event_id"] for one in events] == [f"ev-{number}" for number in reversed(range(30))]
    assert all(one["signals"] and one["asks"] for one in events)


async def test_opting_out_while_holding_lets_go_at_once_within_the_ramp(live):
    await live.run(30)
    key = live.call(0.25, hold_s=600)
    await live.run(40)
    reply = await ask(live, command="opt-out", event="ev-1", why="launch")
    assert reply["ok"]
    (picture,) = await live.run(1)
    assert picture.phases[key] is Phase.RAMPING_UP
    pictures = await live.run(30)
    assert live.untouched
    assert pictures[-1].phases[key] is Phase.OPTED_OUT
    assert live.book.records[key].opt.opt is Opt.OUT
    assert live.changed[-1].event.event_id == "ev-1", "the VTN is to be told"


async def test_opting_in_again_takes_the_event_up_again(live):
    await live.run(30)
    live.call(0.25, hold_s=600)
    await live.run(40)
    await ask(live, command="opt-out", event="ev-1")
    await live.run(30)
    await ask(live, command="opt-in", event="ev-1", why="launch is off")
    await live.run(20)
    assert live.ledger.entries


async def test_an_event_taken_up_while_stopped_is_said_to_wait(live):
    await live.run(1)
    live.call()
    assert (await ask(live, command="opt-in", event="ev-1"))["said"] == "opted in to event ev-1"
    await ask(live, command="pause", why="fire drill")
    said = (await ask(live, command="opt-in", event="ev-1"))["said"]
    assert said == "opted in to event ev-1, but the agent is stopped until `flexload resume`"
    assert (await ask(live, command="opt-out", event="ev-1"))["said"] == "opted out of event ev-1"


async def test_a_ven_that_is_not_there_is_not_blamed_on_the_event(live):
    await live.run(1)
    live.call()
    error = (await ask(live, command="opt-out", event="ev-1", ven="bad"))["error"]
    assert error == "no VEN 'bad'; known: idle, ven"
    error = (await ask(live, command="opt-out", event="ev-1", ven="idle"))["error"]
    assert error == "no event 'ev-1' of VEN 'idle'; `flexload events` lists them"


@pytest.mark.parametrize("command", ["opt-out", "opt-in"])
async def test_an_event_that_is_over_stays_as_it_ended(live, command):
    await live.run(30)
    key = live.call(0.25, start_s=5, hold_s=20)
    await live.run(60)
    before = live.book.records[key]
    reply = await ask(live, command=command, event="ev-1", why="too late")
    assert not reply["ok"]
    opt = command.removeprefix("opt-")
    assert reply["error"] == f"event 'ev-1' is over: opting {opt} would change nothing"
    (picture,) = await live.run(1)
    assert picture.phases[key] is Phase.COMPLETED
    assert live.book.records[key] == before
    assert live.changed == []
    assert not Audit(live.database).last(1)


async def test_an_event_left_for_good_cannot_be_taken_up_after_its_end(live):
    await live.run(30)
    key = live.call(0.25, start_s=5, hold_s=60)
    await live.run(20)
    assert (await ask(live, command="opt-out", event="ev-1"))["ok"]
    await live.run(60)
    assert "is over" in (await ask(live, command="opt-in", event="ev-1"))["error"]
    (picture,) = await live.run(1)
    assert picture.phases[key] is Phase.OPTED_OUT


async def test_who_when_and_why_are_recorded(live):
    await live.run(1)
    live.call()
    await ask(live, command="opt-out", event="ev-1", why="launch")
    (line,) = Audit(live.database).last(1)
    assert (line.who, line.what, line.why) == ("root", "opt out of event ev-1", "launch")
    assert line.at == live.clock.now()
    (deed,) = (await ask(live, command="deeds"))["deeds"]
    assert (deed["who"], deed["why"]) == ("root", "launch")
    assert live.book.records["ven", "ev-1"].opt.by == "operator root"


async def test_deeds_that_cannot_be_read_are_not_said_to_be_none(live, monkeypatch):
    def damaged(count):
        raise StoreError("state.db: database disk image is malformed")

    assert (await ask(live, command="deeds"))["deeds"] == []
    monkeypatch.setattr(live.keeper._audit, "last", damaged)
    reply = await ask(live, command="deeds")
    assert reply["error"].startswith("what operators did cannot be read")


async def test_the_local_stop_wins_over_events_and_limits_and_survives_a_restart(live):
    await live.run(30)
    live.call(0.25, hold_s=600)
    await live.run(40)
    assert (await ask(live, command="pause", why="fire drill"))["ok"]
    await live.run(30)
    assert live.untouched
    await live.restart(after_s=5)
    live.call(0.30, event_id="ev-2", start_s=2, ramp_s=0)
    pictures = await live.run(30)
    assert live.untouched
    assert pictures[-1].stop.why == "fire drill"


async def test_the_vtn_hears_of_the_local_stop_and_of_its_end(live):
    await live.run(30)
    live.call(0.25, hold_s=600)
    await live.run(40)
    await ask(live, command="pause", why="fire drill")
    assert [(r.key[1], r.opt.opt, r.opt.why) for r in live.changed] == [
        ("ev-1", Opt.OUT, "local stop: fire drill")
    ]
    live.changed.clear()
    await ask(live, command="resume")
    assert [(r.key[1], r.opt.opt) for r in live.changed] == [("ev-1", Opt.IN)]


async def test_an_event_that_the_operator_left_stays_left_after_a_stop(live):
    await live.run(30)
    live.call(0.25, hold_s=600)
    await ask(live, command="opt-out", event="ev-1", why="launch")
    await ask(live, command="pause", why="fire drill")
    await ask(live, command="resume")
    await live.run(30)
    assert live.untouched
    assert live.book.records["ven", "ev-1"].opt.why == "launch"


async def test_an_event_that_the_operator_took_up_is_taken_up_again_after_a_stop(live):
    """Policy alone would leave it for its short notice."""
    live.policy = replace(live.policy, min_notice_s=600.0)
    await live.run(30)
    live.call(0.25, hold_s=600)
    await ask(live, command="opt-in", event="ev-1", why="they pay double")
    await live.run(40)
    await ask(live, command="pause", why="fire drill")
    await live.run(30)
    assert live.untouched
    await ask(live, command="resume")
    await live.run(20)
    assert live.ledger.entries
    opt = live.book.records["ven", "ev-1"].opt
    assert (opt.opt, opt.by, opt.why) == (Opt.IN, "operator root", "they pay double")


async def test_resuming_takes_up_what_still_lasts(live):
    await live.run(30)
    live.call(0.25, hold_s=600)
    await live.run(40)
    await ask(live, command="pause", why="fire drill")
    await live.run(30)
    await ask(live, command="resume")
    await live.run(20)
    assert live.ledger.entries


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense\n", "not one line of JSON"),
        (b"[]\n", "one JSON object"),
        (b'{"command": "launch"}\n', "unknown command 'launch'"),
        (b'{"command": "opt-out", "event": "nobody"}\n', "no event 'nobody'"),
        (b'{"command": "resume"}\n', "not stopped"),
        (b"\xff\xfe\n", "not one line of JSON"),
    ],
)
async def test_bad_requests_get_one_clear_sentence(live, line, error):
    reply = await ask(live, line)
    assert not reply["ok"]
    assert error in reply["error"]


async def test_an_event_id_of_several_vens_needs_the_ven(live):
    await live.run(1)
    live.call()
    live.call(ven="other")
    assert "--ven" in (await ask(live, command="opt-out", event="ev-1"))["error"]
    reply = await ask(live, command="opt-out", event="ev-1", ven="other")
    assert reply["said"] == "opted out of event ev-1 of VEN other"
    (line,) = Audit(live.database).last(1)
    assert line.what == "opt out of event ev-1 of VEN other"


async def test_an_endless_line_is_cut_off(live):
    reply = await ask(live, b"x" * (module.LONGEST_LINE + 10) + b"\n")
    assert not reply["ok"]


def called_by_nobody(monkeypatch):
    """The agent is of user and group 4242, and its caller is nobody."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(os, "getegid", lambda: 4242)
    real = module._PEER.unpack

    class Stranger:
        size = module._PEER.size

        @staticmethod
        def unpack(raw):
            pid, _, _ = real(raw)
            return pid, 65534, 65534

    monkeypatch.setattr(module, "_PEER", Stranger)


async def test_members_of_the_agents_group_may_command_wherever_the_group_is_kept(
    live, monkeypatch
):
    """As in a directory that lists no members: only asking for the user's groups tells."""
    called_by_nobody(monkeypatch)
    asked = []

    def groups(name, gid):
        asked.append((name, threading.current_thread()))
        return [gid, 4242]

    monkeypatch.setattr(os, "getgrouplist", groups)
    assert (await ask(live, command="pause"))["ok"]
    ((name, thread),) = asked
    assert name == "nobody"
    assert thread is not threading.main_thread(), "a directory may be slow: the cycle goes on"


async def test_strangers_may_not_command(live, monkeypatch):
    called_by_nobody(monkeypatch)
    reply = await ask(live, command="pause")
    assert "may not command" in reply["error"]
    assert live.keeper.stop is None


async def test_nothing_but_a_socket_is_replaced(live, tmp_path):
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.write_text("years of work")
    folder.mkdir()
    for path in (precious, folder):
        with pytest.raises(ConfigError, match=r"^site\.control_socket: .* is not a socket$"):
            await console_of(live, path).start()
    assert precious.read_text() == "years of work"


async def test_a_directory_that_cannot_be_made_is_one_sentence(live):
    with pytest.raises(
        ConfigError, match=r"^site\.control_socket: /proc/x/s cannot be listened on"
    ):
        await console_of(live, Path("/proc/x/s")).start()


async def test_a_second_agent_on_the_same_socket_is_refused_and_a_stale_file_is_not(live, tmp_path):
    second = console_of(live, tmp_path / "control.sock")
    with pytest.raises(StoreBusyError):
        await second.start()
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    fresh = console_of(live, stale)
    await fresh.start()
    await fresh.stop()


async def test_leaving_a_program_ends_its_events_within_the_ramp_and_is_recorded(live):
    await live.run(30)
    under_way = live.call(0.25, hold_s=600)
    to_come = live.call(0.25, start_s=3600, event_id="ev-2")
    await live.run(40)
    assert live.ledger.entries
    reply = await ask(live, command="deregister", ven="ven", why="moving out")
    assert "2 events end" in reply["said"]
    assert live.moved == ["ven"]
    departure = live.keeper.departure("ven")
    assert departure is not None
    assert departure.why == "moving out"
    assert live.keeper.departure("idle") is None
    (picture,) = await live.run(1)
    assert picture.phases[under_way] is Phase.RAMPING_UP  # nothing jumps
    assert picture.phases[to_come] is Phase.CANCELLED
    pictures = await live.run(30)
    assert live.untouched
    assert pictures[-1].phases[under_way] is Phase.CANCELLED
    (deed,) = (await ask(live, command="deeds"))["deeds"]
    assert (deed["what"], deed["why"]) == ("VEN ven left", "moving out")
    again = await ask(live, command="deregister", ven="ven", why="again")
    assert "has left already" in again["error"]


async def test_another_vens_events_are_none_of_its_business(live):
    await live.run(1)
    key = live.call(0.25)
    await ask(live, command="deregister", ven="idle", why="moving out")
    assert live.book.records[key].ended_by is None


async def test_having_left_survives_a_restart_and_so_does_having_come_back(live):
    await live.run(1)
    await ask(live, command="deregister", ven="idle", why="moving out")
    later = Keeper(live.database, live.history, live.clock.now())
    assert later.departure("idle") == live.keeper.departure("idle") is not None
    reply = await ask(live, command="register", ven="idle", why="back again")
    assert reply["ok"]
    later = Keeper(live.database, live.history, live.clock.now())
    assert later.departure("idle") is None
    assert live.moved == ["idle", "idle"]
    whats = [deed["what"] for deed in (await ask(live, command="deeds"))["deeds"]]
    assert whats == ["VEN idle came back", "VEN idle left"]


async def test_a_departure_whose_record_cannot_be_read_counts(live):
    await live.run(1)
    with live.database.transaction() as connection:
        connection.execute("INSERT INTO facts VALUES ('left ven', '{')")
    departure = Keeper(live.database, live.history, live.clock.now()).departure("ven")
    assert departure is not None
    assert departure.since == live.clock.now()


async def test_registering_at_once_is_no_deed_where_nobody_had_left(live):
    await live.run(1)
    assert (await ask(live, command="register", ven="ven"))["ok"]
    assert live.moved == ["ven"]
    assert (await ask(live, command="deeds"))["deeds"] == []


@pytest.mark.parametrize("command", ["deregister", "register"])
async def test_only_a_ven_that_there_is_can_leave_or_register(live, command):
    await live.run(1)
    reply = await ask(live, command=command, ven="nobody", why="moving out")
    assert reply["error"] == "no VEN 'nobody'; known: idle, ven"
    assert live.moved == []


async def test_a_crash_in_the_middle_of_leaving_leaves_no_event_behind(live):
    await live.run(1)
    key = live.call(0.25, hold_s=None)
    await live.keeper.put_departure("ven", Departure(live.clock.now(), "kim", "moving out"))
    await live.console.stop()
    live.console = console_of(live, live.directory / "control.sock")
    await live.console.start()
    assert live.book.records[key].ended_by is Ending.CANCELLED
