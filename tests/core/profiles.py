"""A ready program at the example's site, with events that it received."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

from agent.config import Config, parse
from agent.configured import policy_of, programs_of
from agent.core.agenda import Agenda, Inputs, agenda_of
from agent.core.event import Event, EventRecord
from agent.core.intake import receive
from agent.core.sample import Sample
from agent.core.timeline import Ceiling, SourceKind
from tests.core.build import at, gpu, instant, record, snapshot

BASELINE_W = 300_000.0
READY = {
    file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
    for file in files("agent").joinpath("programs").iterdir()
}
"""The text of each ready program, by name."""
H, MIN = 3600.0, 60.0


@cache
def configured(name: str) -> Config:
    """The example configuration with a ready program in place of its own."""
    document = tomllib.loads(files("agent").joinpath("example.toml").read_text())
    profile = tomllib.loads(READY[name])
    assert list(profile) == ["program"]
    document["ven"][0]["market_contexts"] = []
    return parse({**document, **profile, "blackout": []})


class Played:
    """A profile's program with one event or several, received at second 0."""

    def __init__(self, name: str, *events: Event) -> None:
        config = configured(name)
        self.policy, self.programs = policy_of(config), programs_of(config)
        [self.program] = self.programs
        self.records: list[EventRecord] = []
        for one in events:
            sent = replace(one, program=self.program.market_context)
            taken = receive(None, sent, self.programs, self.policy, at(0), 0.0)
            assert taken.record is not None
            baseline = None if sent.standing else record(baseline_w=BASELINE_W).baseline
            self.records.append(replace(taken.record, baseline=baseline))

    def agenda(self, second: float, lost_s: float = 0.0, samples: Sequence[Sample] = ()) -> Agenda:
        """What is asked at a second, with the VTN lost for so long by then."""
        inputs = Inputs(
            instant(second),
            snapshot([gpu()], when=at(second)),
            {one.key: one for one in self.records},
            (),
            samples,
            {one.event.ven: at(second - lost_s) for one in self.records},
        )
        return agenda_of(inputs, self.programs, self.policy, BASELINE_W)

    def ceiling(self, second: float, lost_s: float = 0.0) -> Ceiling:
        """The ceiling at a second, with the VTN lost for so long by then."""
        found = self.agenda(second, lost_s).timeline.ceiling_at(at(second))
        assert found is not None
        return found

    def limits(self, *seconds: float) -> list[float | None]:
        """The limits that events and connection set, kW; None where they set none."""
        found = [self.ceiling(second) for second in seconds]
        asked = (SourceKind.EVENT, SourceKind.CAPACITY)
        return [round(c.limit_w / 1000, 3) if c.source.kind in asked else None for c in found]
