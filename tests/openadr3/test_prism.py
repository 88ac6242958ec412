"""The VEN against answers that Prism makes up after the published documents, by the hundred.

Nothing sound is in them but what the test holds at the VTN. What must hold is what is done with the
rest: each unusable object named once and none of its neighbours lost, nothing changed by a list that is
not whole, and every request of ours as the document has it.
"""

import itertools
import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.core.event import Ending
from agent.openadr.iso8601 import format_time
from agent.openadr.v3.settings import WebhookSettings
from agent.openadr.v3.translate import Translator
from agent.openadr.v3.wire import RejectedObject, WireEvent, WireProgram, read_object, read_objects
from tests.clock import NOON
from tests.openadr.rig import PROGRAM as DRILL
from tests.openadr.vtn import free_port
from tests.openadr3.conftest import CLIENT
from tests.openadr3.prism import OddVtn, Prism, pointed, published
from tests.openadr3.rig import Rig3

pytestmark = [
    pytest.mark.openadr3,
    pytest.mark.interop,
    pytest.mark.long,
    pytest.mark.timeout(300),
]

ROUNDS = 10
REFUSALS = (400, 401, 403, 404, 500, 503)
META = {"createdDateTime": format_time(NOON), "modificationDateTime": format_time(NOON)}
PROGRAM = {**META, "id": "held-program", "objectType": "PROGRAM", "programName": "fast-dr"}
EVENT = {
    **META,
    "id": "held-event",
    "objectType": "EVENT",
    "programID": "held-program",
    "intervalPeriod": {"start": format_time(NOON), "duration": "PT5M"},
    "intervals": [
        {"id": n, "payloads": [{"type": "SIMPLE", "values": [1 + n % 2]}]} for n in range(2000)
    ],
    "reportDescriptors": [
        {"payloadType": kind, "startInterval": 0, "numIntervals": 1, "repeat": -1}
        for kind in ("USAGE", "SIMPLE_LEVEL")
    ],
}


CASES = [(v, how) for v in ("3.1.0", "3.0.1") for how in ("as published", "pointed")]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def prism(request, tmp_path_factory):
    version, how = request.param
    document = published(version)
    if how == "pointed":
        times = (format_time(NOON + timedelta(minutes=m)) for m in (0, 40, 180))
        document = pointed(version, tmp_path_factory.mktemp("prism"), *times)
    process = Prism(document)
    yield process, version
    process.kill()


@pytest.fixture
def version(prism):
    return prism[1]


@pytest.fixture
async def vtn(prism):
    process, _ = prism
    await process.answers()
    async with OddVtn(process.url).serving() as vtn:
        vtn.held = {"programs": [PROGRAM], "events": [EVENT]}
        yield vtn


@pytest.fixture
async def rig(vtn, version, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(CLIENT[1])
    port = free_port()
    rig = Rig3(
        tmp_path,
        vtn.url,
        programs=(replace(DRILL, market_context="fast-dr"),),
        version=version,
        client_id=CLIENT[0],
        client_secret=secret,
        mqtt="auto",
        targets=("site-a",),
        timeout_s=30.0,
        poll_s=300.0,
        webhook=WebhookSettings(listen=f"127.0.0.1:{port}", url=f"https://localhost:{port}/grid"),
    )
    rig.samples(NOON, 3600)
    yield rig
    await rig.stop()


class Rejections(list):
    """What a VEN refuses, as it says so."""

    def __init__(self, rig):
        super().__init__()
        keeper = rig.ven._link
        reject = keeper.reject

        def rejected(sentence):
            self.append(sentence)
            reject(sentence)

        keeper.reject = rejected

    def taken(self):
        """What came since this was asked last."""
        since, self[:] = list(self), []
        return since


def unusable(vtn, now, version):
    """What each object of this round comes to, were it alone: the sentences on those that are bad."""
    programs, bad = read_objects(WireProgram, vtn.told("programs"), "program")
    translator = Translator("ven", {p.id: p for p in programs}, version == "3.0.1")
    found = [str(one) for one in bad]
    for place, document in enumerate(vtn.told("events"), start=1):
        wire = read_object(WireEvent, document, "event", place)
        alone = wire if isinstance(wire, RejectedObject) else translator.translate(wire, now)
        if isinstance(alone, RejectedObject):
            found.append(str(alone))
    return found


async def test_whatever_a_vtn_may_say_is_taken_object_by_object(rig, vtn, version, caplog):
    caplog.set_level(logging.WARNING)
    rejections = Rejections(rig)
    # Nobody can be enrolled at first.
    vtn.statuses = {("POST", "vens", 0): 409, ("GET", "vens", 0): 500}
    vtn.turn()
    bad = good = 0
    async with rig:
        await rig.rested()
        held = rig.record("held-event")
        rejections.taken()
        vtn.statuses = {}
        for _ in range(ROUNDS):
            vtn.turn()
            await rig.turn()
            expected = unusable(vtn, rig.clock.now(), version)
            of_lists = [
                said for said in rejections.taken() if said.startswith(("event", "program"))
            ]
            assert Counter(of_lists) == Counter(expected)
            known, intakes = dict(rig.book.records), len(rig.intakes)
            bad, good = bad + len(expected), good + len(vtn.told("events")) - len(expected)
            vtn.turn(again=True)
            await rig.turn()
            assert not rejections.taken(), "what was named is named once"
            assert (dict(rig.book.records), len(rig.intakes)) == (known, intakes)
        assert (rig.record("held-event"), rig.ven.link().registered) == (held, True)
    print(f"{version}: {vtn.fed} answers, {bad} objects unusable, {good} usable; {vtn.asked}")
    assert not vtn.faults
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert bad
    assert ("POST", "reports") in vtn.asked
    assert ("POST", "subscriptions") in vtn.asked


PUBLISHED = [case for case in CASES if case[1] == "as published"]


@pytest.mark.parametrize("prism", PUBLISHED, indirect=True, ids=" ".join)
async def test_a_list_that_is_not_whole_changes_nothing(rig, vtn):
    lost = 0
    async with rig:
        await rig.rested()
        for kind, status in itertools.product(("programs", "events"), REFUSALS):
            known = dict(rig.book.records)
            vtn.turn()
            vtn.held["events"] = []
            page = status % 2
            # A token that is refused is renewed once, and the page asked for again.
            vtn.statuses = {("GET", kind, count): status for count in (page, page + 1)}
            await rig.turn()
            if rig.ven.link().lost_since is not None:  # There may be no second page.
                lost += 1
                assert dict(rig.book.records) == known
            vtn.held["events"] = [EVENT]
            vtn.statuses = {}
            vtn.turn()
            await rig.turn()
            assert rig.ven.link().lost_since is None
            assert rig.record("held-event").ended_by is None
    assert lost > len(REFUSALS)
    assert not vtn.faults


@pytest.mark.parametrize("prism", PUBLISHED, indirect=True, ids=" ".join)
async def test_what_is_not_listed_is_gone_when_the_vtn_says_so_and_not_before(rig, vtn):
    async with rig:
        await rig.rested()
        vtn.held["events"] = []
        for status in (500, 400, None):  # None: another event, which is not what was asked for
            vtn.turn()
            vtn.statuses = {} if status is None else {("GET", "events/held-event", 0): status}
            await rig.turn()
            assert rig.ven.link().lost_since is None
            assert rig.record("held-event").ended_by is None
        vtn.turn()
        vtn.statuses = {("GET", "events/held-event", 0): 404}
        await rig.turn()
        assert rig.record("held-event").ended_by is Ending.CANCELLED
    assert not vtn.faults
