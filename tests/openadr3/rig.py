"""An OpenADR 3 VEN with its stores in a temporary directory and its time in the test's hands."""

from typing import Any

from agent.core.outlook import Outlook
from agent.openadr.base import Surroundings
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.ven import Ven3
from tests.openadr.rig import Rig


class Rig3(Rig):
    """One VEN that can be stopped and started over as a process would be."""

    def _settings(self, **fields: Any) -> Any:
        return Ven3Settings(kind="openadr-3", **{"mqtt": False, **fields})

    outlook: Outlook | None = None

    def _ven(self, around: Surroundings) -> Any:
        return Ven3(self.settings, around, self.history, lambda _: self.outlook)
