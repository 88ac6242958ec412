"""Twenty thousand polls and three thousand events: nothing piles up."""

import asyncio
import itertools
import json
import sys
from datetime import datetime, timedelta

import pytest

from tests.clock import NOON
from tests.openadr import byhand, wire
from tests.openadr.soak import POLL_S
from tests.openadr.vtn import ScriptedVtn, running

pytestmark = [pytest.mark.openadr2, pytest.mark.long]

POLLS = 20_000
EVERY = 6
"""Polls from one new event to the next."""
HOSTILE_EVERY = 29
HOSTILE = [
    body
    for body in byhand.BROKEN.values()
    if len(body) < 100_000 and b"oadrCreateReport" not in body
]
"""Each comes within the first tenth. Not those that may rightly leave more reports to make, nor those
of megabytes: what these take once, the C library keeps for the next."""
REREGISTER_EVERY = 1_999


class Course(ScriptedVtn):
    """A VTN whose events come, change, are cancelled, disappear and end."""

    def __init__(self) -> None:
        super().__init__(report_requests=(wire.report_request(granularity="PT5M", back="PT30M"),))
        self.polls = 0
        self.told = {"new": 0, "modified": 0, "cancelled": 0, "gone": 0, "over": 0}
        self.kinds: dict[str, int] = {}
        self._hostile = itertools.cycle(HOSTILE)
        self._listed = False

    def take(self, service, body):
        received = super().take(service, body)
        self.kinds[received.kind] = self.kinds.get(received.kind, 0) + 1
        self.received.clear()
        return received

    def _default(self, received):
        if received.kind == "oadrCreatePartyRegistration":
            return wire.created_party_registration(poll=f"PT{int(POLL_S)}S")
        if received.kind != "oadrPoll":
            return super()._default(received)
        if self._listed:  # the poll after a list: there is no more
            self._listed = False
            return wire.oadr_response()
        self.polls += 1
        if self.polls % HOSTILE_EVERY == 0:
            return next(self._hostile)
        if self.polls % REREGISTER_EVERY == 0:
            return wire.request_reregistration()
        self._move(self.polls)
        return wire.distribute_event(*self.events) if self._listed else wire.oadr_response()

    def _move(self, poll: int) -> None:
        """An event has six polls: it comes, may change, may be cancelled or vanish, and is over."""
        number, stage = divmod(poll, EVERY)
        fate = number % 4
        start = NOON + timedelta(seconds=(number * EVERY + 1) * POLL_S)
        event_id = f"event-{number}"
        what = {
            0: ("new", self._event(event_id, 0, start)),
            1: ("modified", self._event(event_id, 1, start + timedelta(minutes=5))),
            2: {
                1: ("cancelled", self._event(event_id, 2, start, "cancelled")),
                2: ("gone", ""),
                3: ("modified", self._event(event_id, 2, start)),
            }.get(fate),
            4: ("over", ""),
        }.get(stage)
        if what is None or (stage == 4 and fate == 2):
            return
        self._listed = True
        self.told[what[0]] += 1
        self.events = (what[1],) if what[1] else ()

    def _event(self, event_id: str, revision: int, start: datetime, status: str = "far") -> str:
        return wire.event(event_id, revision, status, start, "PT1H", start_after="PT1M")


@pytest.mark.timeout(3600)
async def test_memory_stays_flat_over_twenty_thousand_polls_and_three_thousand_events():
    """Resident memory, after a tenth of it and at the end: at most 5 % more."""
    async with running(Course()) as vtn:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.openadr.soak", vtn.url, str(POLLS)),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert child.stdout is not None
            standings = [json.loads(line) async for line in child.stdout]
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()
    print(*standings, vtn.told, vtn.kinds, sep="\n")
    assert vtn.polls >= POLLS
    assert vtn.told["new"] >= 3_000
    assert min(vtn.told.values()) >= 500
    first, last = standings[0], standings[-1]
    assert last["polls"] == POLLS
    assert last["resident"] <= 1.05 * first["resident"]
    for standing in standings:
        assert standing["registered"]
        assert standing["requests"] == 1
        assert standing["waiting"] <= 24
        assert standing["events"] <= 300
        assert standing["answers"] <= standing["events"]
    assert vtn.kinds["oadrUpdateReport"] >= POLLS / 4  # a message may cover several periods
