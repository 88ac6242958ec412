"""The status sentence: what is happening, why, and what comes next, in one line for a person."""

from datetime import datetime, timedelta

from agent.core.event import EventRecord, Key
from agent.core.lifecycle import Phase
from agent.core.picture import (
    Picture,
    asking_events,
    current_event,
    limit_in_force,
)
from agent.core.program import Program, describe_ask, program_of
from agent.core.timeline import SourceKind, each_step, window_of
from agent.units import format_duration, format_power


def sentence_of(picture: Picture) -> str:
    """One or two sentences, most important first."""
    if picture.stop is not None:
        main = (
            f"Stopped by {picture.stop.by} ({picture.stop.why}): "
            "reporting, acting on nothing until `flexload resume`."
        )
        return main + _returning(picture)
    key = current_event(picture)
    main = _normal(picture) if key is None else _event(key, picture)
    return main + _shortfall(picture, key) + _lost(picture)


def _event(key: Key, picture: Picture) -> str:
    record = picture.records[key]
    program = program_of(record.event, picture.programs)
    window = window_of(record, program)
    name = f"{'Test event' if record.event.test else 'Event'} {key[1]}"
    if picture.phases[key].acting and key not in asking_events(picture):
        return f"{_normal(picture)} {name} sheds nothing, {_ends(window.done_at, picture)}."
    ceiling = picture.timeline.ceiling_at(picture.at)
    now = format_power(picture.power_w) if picture.power_w is not None else "unknown power"
    limit = "no limit" if ceiling is None else format_power(ceiling.limit_w)
    source = ""
    if ceiling is not None and (ceiling.source.ven, ceiling.source.name) != key:
        source = f" Limited by {ceiling.source}."
    match picture.phases[key]:
        case Phase.HOLDING:
            return f"{name}: holding {now} of {limit} allowed, {_ends(window.hold_until, picture)}.{source}"
        case Phase.RAMPING_DOWN:
            left = format_duration(window.hold_from - picture.at)
            return f"{name}: ramping down, {now} now, {limit} allowed; full delivery in {left}.{source}"
        case Phase.RAMPING_UP:
            said, done_at = "ended", window.done_at or picture.at
            if record.way_back is not None and picture.at < record.way_back.done_at:
                said, done_at = "changed", record.way_back.done_at
            left = format_duration(done_at - picture.at)
            return f"{name}: {said}, returning to normal over the next {left}; {now} now."
        case _:
            left = format_duration(window.ramp_from - picture.at)
            return f"{name} begins in {left}: {_asks(record, program, picture)}. {now} now."


def _ends(end: datetime | None, picture: Picture) -> str:
    if end is None:
        return "until the grid calls it off"
    return f"ends in {format_duration(end - picture.at)}"


def _asks(record: EventRecord, program: Program, picture: Picture) -> str:
    for step in each_step(record, program, picture.max_import_w):
        if step.asks:
            return " and ".join(map(describe_ask, step.asks))
    return "it asks for nothing that sheds"


def _normal(picture: Picture) -> str:
    now = "unknown power" if picture.power_w is None else format_power(picture.power_w)
    ceiling = limit_in_force(picture)
    if ceiling is not None and ceiling.source.kind is not SourceKind.EVENT:
        return f"Holding {now} of {format_power(ceiling.limit_w)}: {ceiling.source}."
    ahead = "" if current_event(picture) else "; no event is ahead"
    return f"Normal operation at {now}{ahead}."


def _returning(picture: Picture) -> str:
    return f" {len(picture.ledger)} setpoints are still being undone." if picture.ledger else ""


def _shortfall(picture: Picture, key: Key | None) -> str:
    """How far the site is above its limit. On the way back from the event that set it nothing is owed."""
    plan = picture.plan
    ended = key is not None and picture.phases[key] is Phase.RAMPING_UP
    if plan.shortfall_w <= 0:
        return ""
    if (
        ended
        and key is not None
        and plan.ceiling is not None
        and (plan.ceiling.source.ven, plan.ceiling.source.name) == key
    ):
        return ""
    why = "; ".join(picture.plan.short_because) or "nothing left to give"
    return f" {format_power(picture.plan.shortfall_w)} short: {why}."


def _lost(picture: Picture) -> str:
    for link in picture.links:
        if link.lost_since is not None:
            lasted = format_duration(max(timedelta(0), picture.at - link.lost_since))
            return f" VTN of {link.ven} has not answered for {lasted}."
    return ""
