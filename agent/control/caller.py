"""Calls drivers so that none can hold the cycle up or end it, whatever it does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from drivers.errors import DriverError, UnavailableError

log = logging.getLogger(__name__)

DRIVER_TIMEOUT_S = 8.0
"""Longest a driver may take for one call, whatever its own timeouts are: a cycle must go on."""

T = TypeVar("T")


class SilentError(UnavailableError):
    """A driver gave no answer in time."""


class Caller:
    """Turns whatever a driver raises into a `DriverError`, and its silence into a `SilentError`."""

    def __init__(self) -> None:
        self._told: set[tuple[str, type[Exception]]] = set()

    async def ask(self, who: str, call: Callable[[], Awaitable[T]]) -> T:
        """A driver's answer. `who` names the driver to people. Raises `DriverError` without one."""
        deadline = asyncio.timeout(DRIVER_TIMEOUT_S)
        try:
            async with deadline:
                return await call()
        except DriverError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise UnavailableError(f"{who} dropped the call") from None
        except Exception as error:
            if deadline.expired():
                raise SilentError(f"{who} gave no answer within {DRIVER_TIMEOUT_S:g} s") from None
            self._tell(who, error)
            raise UnavailableError(f"{who} failed: {error!r}") from error

    def _tell(self, who: str, error: Exception) -> None:
        """Log where an error came from that no driver should raise, the first time."""
        if (who, type(error)) not in self._told:
            self._told.add((who, type(error)))
            log.error("%s failed in a way that is not foreseen", who, exc_info=error)
