"""The ready programs, asked by a VTN of OpenADR 3: what is on the wire comes to the right limits."""

from datetime import timedelta

import pytest

from agent.core.event import Event
from agent.core.timeline import SourceKind
from agent.openadr.v3.translate import Translation, Translator
from agent.openadr.v3.wire import WireEvent, WireProgram
from tests.core.build import NOON
from tests.core.profiles import BASELINE_W, MIN, H, Played

pytestmark = pytest.mark.openadr3

TRANSLATOR = Translator(
    "grid", {"p": WireProgram.model_validate({"id": "p", "programName": "any"})}
)


def sent(name: str, *values: object, start: float = 0.0, hours: float = 1.0) -> Event:
    """An event as it comes over the wire, in intervals of so many hours, heard of at second 0."""
    document = {
        "id": name,
        "programID": "p",
        "intervalPeriod": {
            "start": (NOON + timedelta(seconds=start)).isoformat(),
            "duration": f"PT{round(hours * H)}S",
        },
        "intervals": [
            {"id": n, "payloads": [{"type": name, "values": [value]}]}
            for n, value in enumerate(values)
        ],
    }
    found = TRANSLATOR.translate(WireEvent.model_validate(document), NOON)
    assert isinstance(found, Translation), found
    assert found.event is not None
    return found.event


@pytest.mark.parametrize(
    ("program", "kw", "limit"),
    [
        ("gb-dso-flexibility", -50, 250),
        ("gb-dso-flexibility", 50, None),
        ("gb-neso-dfs", -50, 250),
        ("gb-neso-dfs", 50, 250),
        ("us-pjm-capacity", -50, 250),
        ("us-pjm-capacity", 50, None),
    ],
)
def test_the_sign_of_a_relative_setpoint_is_as_the_program_has_it(program, kw, limit):
    relative = sent("DISPATCH_SETPOINT_RELATIVE", kw, start=H)
    assert Played(program, relative).limits(H + 30 * MIN) == [limit]


def test_a_firm_level_is_sent_as_a_setpoint_in_kilowatts():
    played = Played("us-ca-bip", sent("DISPATCH_SETPOINT", 110.5, start=H))
    assert played.limits(H - 1, H, 2 * H - 1) == [None, 110.5, 110.5]


def test_an_emergency_is_the_highest_level_of_the_program():
    played = Played("us-pjm-capacity", sent("ALERT_GRID_EMERGENCY", "shed now", hours=2))
    assert played.limits(12.5 * MIN, 25 * MIN) == [225, 150]


def test_a_conditional_connection_falls_back_to_what_is_guaranteed():
    guaranteed = sent("IMPORT_CAPACITY_SUBSCRIPTION", 130, hours=1000)
    more = sent("IMPORT_CAPACITY_LIMIT", 400, 250)
    played = Played("se-conditional-connection", guaranteed, more)
    assert played.limits(0, H, 2 * H) == [400, 250, 130]
    lost = played.ceiling(30 * H, lost_s=29 * H)
    assert (lost.source.kind, lost.limit_w, lost.firm) == (SourceKind.CAPACITY, 130_000.0, True)
    assert lost.limit_w < BASELINE_W
