"""A page's server with made-up samples and a made-up clock, for tests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.core.link import Link
from agent.core.picture import Picture
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.telemetry.event_view import events_of
from agent.telemetry.metrics import Metrics
from agent.telemetry.view import View
from agent.web.server import WebServer
from agent.web.settings import WebSettings
from tests.core.build import at
from tests.web.pictures import LINK, moved, shown


def samples(first_s: int, last_s: int) -> list[Sample]:
    """One sample a second, from `first_s` to `last_s` seconds after noon."""
    return [
        Sample(at(i), 30_000.0 + i % 7, MeterQuality.GOOD, 35_000.0) for i in range(first_s, last_s)
    ]


class Site:
    """What a server is asked to show, and when it is there."""

    def __init__(self, history: Sequence[Sample] = (), *, live: bool = False) -> None:
        self.picture: Picture | None = None
        self.history = list(history)
        self.server: WebServer
        self.now = at(0)
        """What the server takes for the present."""
        self._live = live
        self._shift = timedelta(0)

    @property
    def url(self) -> str:
        return self.server.url

    async def show(self, of: Picture, *, link: Link = LINK, **changes: object) -> View:
        """Show the view of a picture at its own time or, live, as if it were of this moment."""
        if self._live:
            self._shift = datetime.now(UTC) - of.at
        self.picture = replace(of, links=(link,))
        self.now = of.at + self._shift
        view = moved({**shown(of, link), **changes}, self._shift)
        await self.server.show(view)
        return view

    async def events(self, event_id: str | None = None) -> list[View]:
        found = [] if self.picture is None else events_of(self.picture, event_id)
        return [moved(event, self._shift) for event in found]

    async def samples(self, since: datetime, until: datetime) -> tuple[Sample, ...]:
        moved_on = (replace(sample, at=sample.at + self._shift) for sample in self.history)
        return tuple(sample for sample in moved_on if since <= sample.at < until)


@asynccontextmanager
async def serving(
    history: Sequence[Sample] = (), *, live: bool = False, **settings: object
) -> AsyncIterator[Site]:
    """A started server on a free port of the loopback interface."""
    site = Site(history, live=live)
    site.server = WebServer(
        WebSettings(**{"listen": "127.0.0.1:0", **settings}),  # type: ignore[arg-type]
        Metrics(lambda: site.picture),
        site.events,
        site.samples,
        lambda: site.now,
    )
    await site.server.start()
    try:
        yield site
    finally:
        await site.server.stop()
