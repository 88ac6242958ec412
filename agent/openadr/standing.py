"""How one VEN stands with its VTN, in view and on disk."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Literal

from agent.clock import Clock
from agent.core.link import Departure, Link
from agent.errors import StoreError
from agent.openadr.base import Surroundings
from agent.openadr.settings import VenSettings
from agent.store.registrations import Registration

log = logging.getLogger(__name__)

_REMEMBERED = 200
_OWN = ("leaving", "registration store", "event store")
"""Sources of trouble that has nothing to do with belonging to a program."""

Use = Literal["TLS", "signing"]
"""What a certificate is for."""


class LinkKeeper:
    """Keeps one VEN's `Link`, and logs once when its VTN goes and once when it is back."""

    def __init__(self, ven: str, url: str, clock: Clock, profile: str = "") -> None:
        self._clock = clock
        self._ven = ven
        self._link = Link(ven=ven, url=url, profile=profile)
        self._troubles: dict[str, str] = {}
        self._said: dict[str, None] = {}
        self._certificates: dict[Use, datetime | None] = {"TLS": None, "signing": None}
        self._vtn_certificates = self._certificates.copy()

    @property
    def link(self) -> Link:
        """How it stands now."""
        spoken = (t for source, t in self._troubles.items() if self._concerns(source))
        return replace(
            self._link,
            trouble="; ".join(spoken),
            certificate_expires=_first(self._certificates),
            vtn_certificate_expires=_first(self._vtn_certificates),
        )

    def heard(self) -> None:
        """The VTN gave a usable answer to something."""
        self._link = replace(self._link, last_contact=self._clock.now())

    def lost(self, why: str) -> None:
        """Polling failed."""
        if self._link.lost_since is None:
            self._link = replace(self._link, lost_since=self._clock.now())
            log.warning("VEN %s: lost its VTN: %s", self._ven, why)
        self._troubles["vtn"] = why

    def found(self) -> None:
        """Polling works."""
        self._troubles.pop("vtn", None)
        if self._link.lost_since is not None:
            away = self._clock.now() - self._link.lost_since
            self._link = replace(self._link, lost_since=None)
            log.info("VEN %s: its VTN is back after %.0f s", self._ven, away.total_seconds())

    def registered(self, ven_id: str, poll_s: float) -> None:
        """The VEN is registered; that says nothing once it left."""
        if self._link.left is not None:
            return
        self._link = replace(self._link, registered=True, ven_id=ven_id, poll_s=poll_s)
        self.clear("registration")

    def unregistered(self, why: str) -> None:
        """It is not, or not any more."""
        self._link = replace(self._link, registered=False)
        self.trouble("registration", f"not registered: {why}")

    def limits(self, *, void: bool) -> None:
        """Whether the import limits that were known at the start count no more (`Link.limits_void`)."""
        self._link = replace(self._link, limits_void=void)

    def certificate(self, use: Use, expires: datetime | None) -> None:
        """Until when our certificate for some use is valid, as far as that is known."""
        self._certificates[use] = expires

    def vtn_certificate(self, use: Use, expires: datetime) -> None:
        """Until when the certificate is valid that the VTN has just shown; from any thread."""
        self._vtn_certificates[use] = expires

    def stands(self, departure: Departure | None) -> None:
        """The VEN left its program, or is in it. Once it left, there is no VTN to be lost."""
        if departure is not None and self._link.left is None:
            self._link = replace(self._link, registered=False, lost_since=None, left=departure)
            self._troubles = {s: t for s, t in self._troubles.items() if self._concerns(s)}
            said = "out of its program by %s since %s (%s), until `flexload register %s`"
            since = f"{departure.since:%Y-%m-%d %H:%M:%SZ}"
            log.warning(f"VEN %s: {said}", self._ven, departure.by, since, departure.why, self._ven)
        self._link = replace(self._link, left=departure)
        if departure is None:
            self._troubles.pop("leaving", None)

    def trouble(self, source: str, sentence: str) -> None:
        """Something is wrong; one sentence for each source, logged when it changes."""
        if self._troubles.get(source) != sentence:
            self._troubles[source] = sentence
            log.warning("VEN %s: %s", self._ven, sentence)

    def in_trouble(self, source: str) -> bool:
        """Whether something of this source is wrong."""
        return source in self._troubles

    def clear(self, source: str) -> None:
        """It is not wrong any more."""
        if self._troubles.pop(source, None) is not None:
            log.info("VEN %s: %s is in order again", self._ven, source)

    def reject(self, sentence: str) -> None:
        """A message or an event was refused; counted each time, logged the first."""
        self._link = replace(self._link, rejected=self._link.rejected + 1)
        self.say_once(f"refused: {sentence}")

    def say_once(self, sentence: str, level: int = logging.WARNING) -> None:
        """Log what may come again and again, the first time."""
        if sentence not in self._said:
            self._said[sentence] = None
            if len(self._said) > _REMEMBERED:
                self._said.pop(next(iter(self._said)))
            log.log(level, "VEN %s: %s", self._ven, sentence)

    def _concerns(self, source: str) -> bool:
        """Whether a trouble matters: of one that left its program, only some do."""
        return self._link.left is None or source in _OWN


def _first(known: Mapping[Use, datetime | None]) -> datetime | None:
    return min((at for at in known.values() if at is not None), default=None)


class RegistrationKeeper:
    """Keeps one VEN's registration: in memory at once, on disk as soon as that takes it."""

    def __init__(self, settings: VenSettings, around: Surroundings, link: LinkKeeper) -> None:
        """Read what is known; raises `StoreError`. What was agreed with another VTN does not count."""
        known = around.registrations.get(settings.name)
        self.current = known if known is not None and known.vtn_url == settings.vtn_url else None
        """None before the first registration."""
        self.departed = around.departed
        self._registrations = around.registrations
        self._link = link
        self._lock = asyncio.Lock()
        self._unsaved = False
        self._lapsed = False
        self.generation = 0
        """Counts registrations, so that news of an old one is not taken for the present one's."""
        self._disowned: dict[str, int] = {}
        """By service: under which registration it last said that it does not know us."""

    @property
    def valid(self) -> Registration | None:
        """The registration if there is one in force and the VEN has not left."""
        held = self.current
        if held is None or not held.registration_id or self._lapsed or self.departed() is not None:
            return None
        return held

    def believes(self, service: str) -> bool:
        """Whether a service that says it does not know us is to be believed: not when it said so before we
        last registered, too. Then it is the service that will not have us; polls tell of the VTN.
        """
        before = self._disowned.get(service)
        self._disowned[service] = self.generation
        return before is None or before + 1 < self.generation

    def lapse(self) -> None:
        """The VTN does not honour the registration any more; its ids may still serve to renew it."""
        self._lapsed = True

    async def enter(self, registration: Registration) -> None:
        """Hold a new registration, which is in force."""
        self._lapsed = False
        self.generation += 1
        await self.put(registration)

    async def put(self, registration: Registration) -> None:
        """Hold what the registration has become."""
        self.current = registration
        self._unsaved = True
        await self.save()

    async def update(self, change: Callable[[Registration], Registration]) -> None:
        """Change what is held. Nothing happens when there is nothing, or nothing changes."""
        if self.current is None:
            return
        changed = change(self.current)
        if changed != self.current:
            await self.put(changed)

    async def save(self) -> None:
        """Write what is not on disk yet. What cannot be written is named as trouble and kept."""
        async with self._lock:
            while self._unsaved and self.current is not None:
                self._unsaved = False
                try:
                    await asyncio.to_thread(self._registrations.put, self.current)
                except StoreError as error:
                    self._unsaved = True
                    self._link.trouble("registration store", str(error))
                    return
                self._link.clear("registration store")
