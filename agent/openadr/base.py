"""What a VEN is to the rest of the agent, whatever OpenADR it speaks."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.clock import Clock
from agent.core.event import EventRecord
from agent.core.intake import Intake
from agent.core.link import Departure, Link
from agent.core.policy import Policy
from agent.core.program import Program
from agent.store.events import EventBook
from agent.store.registrations import Registrations


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every VEN is given of the agent around it."""

    book: EventBook
    registrations: Registrations
    programs: tuple[Program, ...]
    policy: Callable[[], Policy]
    """The site's rules as they are now."""
    clock: Clock
    rng: random.Random
    on_intake: Callable[[Sequence[Intake]], None]
    """Called in the event loop whenever events changed, after they were stored."""
    foreign_contexts: Collection[str] = ()
    """Market contexts, or programs, that are other VENs' alone."""
    departed: Callable[[], Departure | None] = lambda: None
    """That the operator took this VEN out of its program."""


class Ven(Protocol):
    """One virtual end node. It stores events and answers; it never acts on the site."""

    @property
    def name(self) -> str:
        """Its name in the configuration, and of its events."""

    def link(self) -> Link:
        """How it stands now."""

    async def run(self) -> None:
        """Register, poll and report until cancelled. A VTN in trouble never ends it."""

    def wake(self) -> None:
        """The operator had it leave its program, come back, or register: see to that now."""

    def tell(self, record: EventRecord) -> None:
        """The site changed its mind on an event: let the VTN know, now or as soon as it is back."""
