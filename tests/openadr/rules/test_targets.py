"""Rules on whom an event is for: ids, targets and market contexts."""

import pytest

from tests.openadr import wire
from tests.openadr.rig import Rig, delivered

pytestmark = pytest.mark.openadr2


def target(**ids: str) -> str:
    return "".join(f"<ei:{kind}>{value}</ei:{kind}>" for kind, value in ids.items())


async def test_rule_021_ids_that_are_not_as_expected_are_an_error(vtn, running_rig):
    """The vtnID must be that of the VTN we are registered with, and a venID that is named must be ours.
    A list of another VTN's is refused whole (452) and implies nothing about what we hold; so is one
    without any vtnID. An event for another VEN is refused alone. The cancellation of an event that
    we never heard of is no error.
    """
    await delivered(vtn, running_rig, wire.event("ours"))
    for vtn_id in ("evil", ""):
        answers = await delivered(vtn, running_rig, wire.event("alien"), vtn_id=vtn_id)
        assert answers == {"alien": (452, "optOut", "dist-1")}
        whole = vtn.of("oadrCreatedEvent")[-1]
        assert whole.text("eiCreatedEvent", "eiResponse", "responseCode") == "452"
        assert set(running_rig.book.records) == {("ven", "ours")}
        assert running_rig.record("ours").ended_by is None
    assert "vtnID is '', but our VTN is 'vtn'" in running_rig.ven.link().trouble
    answers = await delivered(
        vtn,
        running_rig,
        wire.event("ours"),
        wire.event("theirs", target=target(venID="ven-2")),
        wire.event("unheard of", status="cancelled"),
    )
    assert running_rig.ven.link().trouble == ""
    assert {key: answer[0] for key, answer in answers.items()} == {
        "ours": 200,
        "theirs": 462,
        "unheard of": 200,
    }


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ("", 200),
        (target(venID="ven-1"), 200),
        (target(venID="other") + target(venID="ven-1"), 200),
        (target(resourceID="site", venID="other"), 200),
        (target(groupID="feeder 7"), 200),
        (target(groupID="feeder 8", partyID="us"), 200),
        (target(groupID="feeder 8", venID="other"), 462),
        (target(partyID="them"), 462),
        (target(venID="other"), 462),
        (target(venID="VEN-1"), 462),
        (target(resourceID="barn"), 462),
    ],
)
async def test_rule_022_targets_are_alternatives_and_none_at_all_means_us(
    vtn, tmp_path, named, code
):
    """One match of any kind makes us the target, and an event without targets is for whoever gets it.
    One that is for others only is refused as a target mismatch and not kept.
    """
    async with Rig(tmp_path, vtn.url, groups=("feeder 7",), parties=("us",)) as rig:
        answers = await delivered(vtn, rig, wire.event(target=named))
        assert answers["ev-1"][0] == code
        assert (("ven", "ev-1") in rig.book.records) is (code == 200)


@pytest.mark.parametrize(
    "named",
    [
        target(groupID="feeder 7"),
        target(partyID="somebody", venID="other"),
        "<power:serviceArea/>" + target(venID="other"),
    ],
)
async def test_whom_the_vtn_alone_knows_may_be_us(vtn, running_rig, named):
    """Where we were not told our groups, parties or places, it knows whom it sends an event to."""
    assert (await delivered(vtn, running_rig, wire.event(target=named)))["ev-1"][0] == 200


async def test_rule_048_logical_errors_are_answered_with_a_4xx_for_the_event(vtn, tmp_path):
    """What is well-formed but does not fit is told by a 4xx code of that event's own answer: a market
    context that is not ours, a target that is not us, signals of which none is known here. (That a
    VTN finds wrong eventIDs and modificationNumbers in what we say is its own duty.)
    """
    async with Rig(tmp_path, vtn.url, market_contexts=(wire.MARKET, "http://no.program")) as rig:
        answers = await delivered(
            vtn,
            rig,
            wire.event("ours"),
            wire.event("other market", market="http://other.example"),
            wire.event("no program", market="http://no.program"),
            wire.event("other target", target=target(venID="other")),
            wire.event("other signal", signals=[wire.signal("x-coffee", "level")]),
            wire.event("no signal", signals=[]),
        )
    assert {key: answer[:2] for key, answer in answers.items()} == {
        "ours": (200, "optIn"),
        "other market": (453, "optOut"),
        "no program": (453, "optOut"),
        "other target": (462, "optOut"),
        "other signal": (460, "optOut"),
        "no signal": (454, "optOut"),
    }
