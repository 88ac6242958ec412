"""What a VTN may send in its worst hour: thousands of odd and hostile messages, over HTTP, to one VEN.

Whatever comes, the VEN lives and answers in valid messages, and its next poll works. It loses neither
what it holds nor a sound event in the same message.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from agent.openadr.v20.xml import check_outgoing
from tests.openadr import byhand
from tests.openadr.odd import messages, schema
from tests.openadr.ordeal import Case, Ordeal, lists, others, whole, wrecks

pytestmark = pytest.mark.openadr2

ANSWERED = {
    "oadrCreatedEvent": "oadrResponse",
    "oadrRequestEvent": "oadrDistributeEvent",
    "oadrUpdateReport": "oadrUpdatedReport",
    "oadrRegisterReport": "oadrRegisteredReport",
}
"""What else the VEN sends, and what it expects in answer."""


@dataclass(frozen=True)
class Shard:
    """A part of the corpus."""

    name: str
    cases: st.SearchStrategy[Case]
    count: int
    """So many different messages are fed at least."""


def shards() -> list[Shard]:
    kinds = [kind for kind in schema().kinds if kind != "oadrDistributeEvent"]
    parts = [Shard(f"lists {n}", lists(), 45) for n in range(20)]
    parts += [Shard(kind, others(kind), 30) for kind in kinds]
    parts += [Shard(f"wrecked lists {n}", wrecks("oadrDistributeEvent"), 60) for n in range(4)]
    parts += [Shard(f"wrecks {n}", st.sampled_from(kinds).flatmap(wrecks), 60) for n in range(4)]
    for sent, expected in ANSWERED.items():
        wrong = st.sampled_from(schema().kinds).flatmap(partial(others, answers=sent))
        parts.append(Shard(f"answers to {sent}", others(expected, sent) | wrong, 40))
    registrations = others("oadrCreatedPartyRegistration", "oadrCreatePartyRegistration")
    parts.append(Shard("answers to oadrCreatePartyRegistration", registrations, 30))
    return parts


SHARDS = shards()


Seeded = Callable[[Any], Any]


class EnoughError(Exception):
    """So many messages were taken as were to be: drawing more would cost time alone."""


def drawn(shard: Shard, count: int, seeded: Seeded, take: Callable[[Case], None]) -> set[bytes]:
    """Take different messages until there were so many; their bodies."""
    bodies: set[bytes] = set()

    @seeded
    @settings(
        max_examples=2 * count,
        database=None,
        report_multiple_bugs=False,  # the first is that there were enough
        phases=[Phase.generate],  # each attempt to shrink would need a VEN of its own
        suppress_health_check=list(HealthCheck),
    )
    @given(shard.cases)
    def draw(case: Case) -> None:
        if len(bodies) < count and case.body not in bodies:
            take(case)
            bodies.add(case.body)
        if len(bodies) == count:
            raise EnoughError

    with suppress(EnoughError):
        draw()
    return bodies


@contextmanager
def ordeal() -> Iterator[Callable[[Case], None]]:
    """What puts a VEN through a message."""
    with asyncio.Runner() as runner:
        ordeal = Ordeal()
        runner.run(ordeal.begin())
        try:
            yield lambda case: runner.run(ordeal.feed(case))
        finally:
            runner.run(ordeal.end())


@pytest.mark.parametrize("shard", SHARDS, ids=lambda shard: shard.name)
def test_nothing_is_lost_by_an_odd_message(shard):
    """The same messages in every run."""
    with ordeal() as feed:
        fed = drawn(shard, shard.count, seed(shard.name), feed)
    assert len(fed) == shard.count


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shard", SHARDS, ids=lambda shard: shard.name)
def test_nothing_is_lost_by_any_odd_message(shard):
    """Other messages in every run, and more."""
    with ordeal() as feed:
        drawn(shard, 5 * shard.count, lambda draw: draw, feed)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_corpus_is_as_large_as_is_promised():
    """Shards may draw the same message: what counts is how many different ones all have fed."""
    bodies = {case.body for _, case in byhand.cases()}
    for shard in SHARDS:
        bodies |= drawn(shard, shard.count, seed(shard.name), lambda case: None)
    assert len(bodies) >= 2_200


@pytest.mark.parametrize("part", range(3))
def test_nothing_is_lost_by_what_somebody_thought_of(part):
    with ordeal() as feed:
        for name, case in [*byhand.cases()][part::3]:
            try:
                feed(case)
            except BaseException as error:
                error.add_note(f"by {name}")
                raise


@pytest.mark.parametrize("kind", schema().kinds)
@settings(max_examples=5, derandomize=True, database=None)
@given(outcome=st.data())
def test_what_is_not_made_odd_is_what_the_schema_allows(kind, outcome):
    """The corpus is drawn after the schema indeed: short of odd texts and spoiling it is valid."""
    check_outgoing(whole(outcome.draw(messages(kind, 0))))
