"""What a VEN is to the rest of the agent, whatever OpenADR it speaks."""

from typing import Protocol

from agent.core.event import EventRecord
from agent.core.link import Link


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


__all__ = ["Link", "Ven"]
