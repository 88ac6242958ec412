"""Changes of mind and blackouts, told as opts (EiOpt)."""

from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web

from agent.core.event import BY_POLICY, EventRecord, Opt, OptDecision
from agent.core.lifecycle import opted_in, opted_out
from agent.core.policy import Blackout, Policy
from agent.openadr.v20.xml import child, children, text
from agent.openadr.v20b.opts import reason_of
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import Rig, until
from tests.openadr.vtn import ScriptedVtn

pytestmark = pytest.mark.openadr2

HOUR = timedelta(hours=1)
CHRISTMAS = Blackout(NOON + 24 * HOUR, NOON + 48 * HOUR, "Christmas")
TODAY = Blackout(NOON - HOUR, NOON + HOUR, "launch day")
OVER = Blackout(NOON - 2 * HOUR, NOON - HOUR, "yesterday's")


def with_blackouts(*blackouts: Blackout) -> Policy:
    return Policy(max_import_w=100_000.0, blackouts=blackouts)


@pytest.fixture
async def answered(vtn, rig) -> Rig:
    """A VEN that has answered optIn on event ev-1, and whose VTN knows."""
    vtn.events = (wire.event(),)
    rig.start()
    await rig.rested()
    assert vtn.of("oadrCreatedEvent")[0].event_answers["ev-1"][:2] == (200, "optIn")
    return rig


def decide(rig: Rig, opt: Opt, why: str = "maintenance", event_id: str = "ev-1") -> EventRecord:
    """The operator opts."""
    decision = OptDecision(opt, "operator kim", rig.clock.now(), why)
    record = replace(rig.record(event_id), opt=decision)
    record = opted_out(record, rig.clock.now()) if opt is Opt.OUT else opted_in(record)
    rig.book.put(record)
    rig.ven.tell(record)
    return record


def said(vtn: ScriptedVtn) -> list[tuple[str, str]]:
    """What was said of events and opts, in order."""
    spoken = []
    for message in vtn.received:
        if message.kind == "oadrCreatedEvent":
            spoken += [("answer", opt) for _, opt, _ in message.event_answers.values()]
        elif message.kind == "oadrCreateOpt":
            spoken.append(("opt", message.text("optType")))
        elif message.kind == "oadrCancelOpt":
            spoken.append(("cancel", ""))
    return spoken


def opt_ids(vtn: ScriptedVtn, kind: str = "oadrCreateOpt") -> list[str]:
    return [message.text("optID") for message in vtn.of(kind)]


async def test_a_change_of_mind_overrides_the_answer_and_is_taken_back_by_a_cancel(vtn, answered):
    decide(answered, Opt.OUT)
    told = await vtn.seen("oadrCreateOpt")
    assert told.service == "EiOpt"
    assert told.text("optType") == "optOut"
    assert told.text("optReason") == "notParticipating"
    assert told.text("venID") == "ven-1"
    assert told.text("qualifiedEventID", "eventID") == "ev-1"
    assert told.text("qualifiedEventID", "modificationNumber") == "0"
    assert told.text("eiTarget", "resourceID") == "site"
    assert child(told.tree, "vavailability") is None
    decide(answered, Opt.IN)
    taken_back = await vtn.seen("oadrCancelOpt")
    assert taken_back.text("optID") == told.text("optID")
    assert taken_back.text("venID") == "ven-1"
    await answered.turn()
    assert said(vtn) == [("answer", "optIn"), ("opt", "optOut"), ("cancel", "")]
    assert answered.registration.opts == ()


async def test_a_second_change_of_mind_is_an_opt_with_an_id_of_its_own(vtn, answered):
    for opt in (Opt.OUT, Opt.IN, Opt.OUT):
        decide(answered, opt)
        await answered.turn()
    assert len(set(opt_ids(vtn))) == 2


async def test_taking_back_is_a_new_opt_where_the_answer_is_not_what_is_meant(vtn, answered):
    """The VTN sent the event again meanwhile, and its answer said optOut."""
    decide(answered, Opt.OUT)
    await vtn.seen("oadrCreateOpt")
    vtn.reply("oadrPoll", wire.distribute_event(wire.event()))
    await answered.turn()
    decide(answered, Opt.IN)
    await vtn.seen("oadrCreateOpt", 2)
    await answered.turn()
    assert said(vtn)[1:] == [
        ("opt", "optOut"),
        ("answer", "optOut"),
        ("cancel", ""),
        ("opt", "optIn"),
    ]


async def test_a_modification_is_answered_and_supersedes_the_opt(vtn, answered):
    decide(answered, Opt.OUT)
    await vtn.seen("oadrCreateOpt")
    vtn.reply("oadrPoll", wire.distribute_event(wire.event(revision=1)))
    await answered.turn()
    await answered.turn()
    assert said(vtn)[2:] == [("answer", "optOut")]
    assert answered.registration.opts == ()
    decide(answered, Opt.IN)
    told = await vtn.seen("oadrCreateOpt", 2)
    assert told.text("qualifiedEventID", "modificationNumber") == "1"


async def test_the_opt_on_an_event_that_is_over_is_not_spoken_of_any_more(vtn, answered):
    decide(answered, Opt.OUT)
    await vtn.seen("oadrCreateOpt")
    await answered.turn(2 * HOUR.total_seconds())
    assert answered.registration.opts == ()
    assert vtn.count("oadrCancelOpt") == 0


async def test_a_lost_answer_sends_the_same_opt_again_also_after_our_restart(vtn, answered):
    async def lost(request):
        request.transport.close()
        return web.Response()

    vtn.reply("oadrCreateOpt", lost, lost)
    decide(answered, Opt.OUT)
    await vtn.seen("oadrCreateOpt")
    assert answered.ven.link().lost_since is None
    await until(lambda: "not everything reaches the VTN" in answered.ven.link().trouble)
    await answered.restart()
    while vtn.count("oadrCreateOpt") < 3:
        await answered.turn()
    await answered.turn()
    assert len(set(opt_ids(vtn))) == 1
    assert vtn.count("oadrCreateOpt") == 3
    assert answered.ven.link().trouble == ""
    (opt,) = answered.registration.opts
    assert opt.acknowledged


async def test_what_is_told_survives_our_restart_and_is_not_told_again(vtn, answered):
    decide(answered, Opt.OUT)
    await vtn.seen("oadrCreateOpt")
    await answered.quiet()
    vtn.events = ()  # or it would be answered again
    vtn.reply("oadrRequestEvent", wire.oadr_response())
    await answered.restart()
    await answered.turn()
    assert vtn.count("oadrCreateOpt") == 1
    decide(answered, Opt.IN)
    assert (await vtn.seen("oadrCancelOpt")).text("optID") == opt_ids(vtn)[0]


def status(code: int):
    async def answer(request):
        return web.Response(status=code)

    return answer


@pytest.mark.parametrize(
    "refusal",
    [
        wire.created_opt("x", 452),
        wire.oadr_response(459, "should not be sent to this endpoint"),
        wire.oadr_response(469),
        b"<html>",
        b"",
        wire.distribute_event(),
        status(404),
        status(405),
        status(500),
    ],
)
async def test_a_vtn_that_takes_no_opt_is_answered_instead(vtn, answered, refusal, caplog):
    vtn.reply("oadrCreateOpt", refusal)
    decide(answered, Opt.OUT)
    told = await vtn.seen("oadrCreatedEvent", 2)
    assert told.event_answers["ev-1"][:2] == (200, "optOut")
    await answered.quiet()
    decide(answered, Opt.IN)
    await answered.turn()
    await answered.turn()
    assert said(vtn)[:3] == [("answer", "optIn"), ("opt", "optOut"), ("answer", "optOut")]
    assert said(vtn)[3][1] == "optIn"
    assert len(said(vtn)) == 4
    assert answered.ven.link().lost_since is None
    assert answered.ven.link().trouble == ""


async def test_a_service_that_alone_never_answers_does_not_hold_up_the_news(vtn, answered):
    async def lost(request):
        request.transport.close()
        return web.Response()

    vtn.reply("oadrCreateOpt", *[lost] * 20)
    vtn.reply("oadrRequestEvent", *[wire.oadr_response()] * 20)  # it lists no events either
    decide(answered, Opt.OUT)
    while vtn.count("oadrCreatedEvent") < 2:
        await answered.turn()
    assert vtn.count("oadrCreateOpt") == 3
    assert vtn.of("oadrCreatedEvent")[-1].event_answers["ev-1"][1] == "optOut"


@pytest.mark.parametrize("refusal", [wire.canceled_opt("x", 452), status(404), status(500), b""])
async def test_an_opt_that_cannot_be_taken_back_is_put_right_by_an_answer(vtn, answered, refusal):
    decide(answered, Opt.OUT)
    await vtn.seen("oadrCreateOpt")
    vtn.reply("oadrCancelOpt", refusal)
    decide(answered, Opt.IN)
    told = await vtn.seen("oadrCreatedEvent", 2)
    assert told.event_answers["ev-1"][1] == "optIn"
    await answered.turn()
    assert vtn.count("oadrCancelOpt") == 1
    assert answered.registration.opts == ()


async def test_not_registered_in_answer_to_an_opt_registers_again_and_tells_it_again(vtn, answered):
    vtn.reply("oadrCreateOpt", wire.oadr_response(463))
    vtn.reply("oadrRequestEvent", wire.oadr_response())
    decide(answered, Opt.OUT)
    await vtn.seen("oadrCreateOpt")
    await answered.turn()
    await vtn.seen("oadrCreateOpt", 2)
    await answered.turn()
    assert len(set(opt_ids(vtn))) == 1
    assert vtn.count("oadrCreatePartyRegistration") == 2


async def test_an_opt_service_that_alone_never_knows_us_is_done_without(vtn, answered):
    """Some VTNs answer so where a VEN may not use a service: an answer serves, once we registered anew."""
    vtn.reply("oadrCreateOpt", *[wire.oadr_response(463)] * 100)
    vtn.reply("oadrRequestEvent", *[wire.oadr_response()] * 100)
    decide(answered, Opt.OUT)
    for _ in range(10):
        await answered.turn()
    assert vtn.count("oadrCreatePartyRegistration") == 2
    assert vtn.count("oadrCreateOpt") == 2
    assert vtn.of("oadrCreatedEvent")[-1].event_answers["ev-1"][1] == "optOut"
    assert answered.ven.link().registered
    assert answered.ven.link().trouble == ""


async def test_an_event_that_wants_no_answer_gets_no_opt_either(vtn, rig):
    vtn.events = (wire.event(response="never"),)
    rig.start()
    await rig.rested()
    decide(rig, Opt.OUT)
    await rig.turn()
    assert said(vtn) == []


def decision(opt: Opt, why: str, by: str = "operator kim") -> OptDecision:
    return OptDecision(opt, by, NOON, why)


@pytest.mark.parametrize(
    ("decided", "reason"),
    [
        (decision(Opt.OUT, "maintenance"), "notParticipating"),
        (decision(Opt.IN, "no reason given"), "participating"),
        (decision(Opt.OUT, "emergency: fire in hall 2"), "emergency"),
        (decision(Opt.OUT, "Economic"), "economic"),
        (decision(Opt.OUT, "must-run: a deadline"), "mustRun"),
        (decision(Opt.OUT, "mustRun"), "mustRun"),
        (decision(Opt.OUT, "outage: chiller 3"), "outageRunStatus"),
        (decision(Opt.OUT, "emergency drill is over"), "notParticipating"),
        (decision(Opt.OUT, "local stop: fire", BY_POLICY), "overrideStatus"),
        (decision(Opt.IN, "enrolled in fast-dr", BY_POLICY), "participating"),
    ],
)
def test_a_decision_has_one_of_the_profiles_reasons(decided, reason):
    assert reason_of(decided) == reason


async def test_blackouts_are_told_ahead_of_any_event(vtn, tmp_path):
    policy = with_blackouts(CHRISTMAS, TODAY, OVER, CHRISTMAS)
    async with Rig(tmp_path, vtn.url, policy=policy) as rig:
        await rig.turn()
        await rig.turn()
        assert vtn.count("oadrCreateOpt") == 2  # the one that is over is not told, and each once
        christmas = vtn.of("oadrCreateOpt")[0]
        assert christmas.text("optType") == "optOut"
        assert christmas.text("optReason") == "x-schedule"
        assert child(christmas.tree, "qualifiedEventID") is None
        stretches = children(child(christmas.tree, "vavailability", "components"), "available")
        assert [
            (
                text(s, "properties", "dtstart", "date-time"),
                text(s, "properties", "duration", "duration"),
            )
            for s in stretches
        ] == [("2026-07-02T12:00:00Z", "P1D")]
        assert len(set(opt_ids(vtn))) == 2
        assert len(rig.registration.opts) == 2
        await rig.turn(2 * HOUR.total_seconds())
        assert len(rig.registration.opts) == 1  # over, and not spoken of any more
        assert vtn.count("oadrCancelOpt") == 0


async def test_a_stretch_with_a_fraction_of_a_second_is_widened_to_what_the_schema_knows(
    vtn, tmp_path
):
    half = timedelta(milliseconds=500)
    odd = Blackout(NOON + HOUR + half, NOON + 2 * HOUR + half, "odd")
    async with Rig(tmp_path, vtn.url, policy=with_blackouts(odd)):
        told = await vtn.seen("oadrCreateOpt")
    available = child(told.tree, "vavailability", "components", "available", "properties")
    assert text(available, "dtstart", "date-time") == "2026-07-01T13:00:00Z"
    assert text(available, "duration", "duration") == "PT1H1S"


async def test_a_blackout_that_changed_in_the_configuration_replaces_the_one_told(vtn, tmp_path):
    async with Rig(tmp_path, vtn.url, policy=with_blackouts(CHRISTMAS, TODAY)) as rig:
        await vtn.seen("oadrCreateOpt", 2)
        await rig.quiet()
        longer = replace(CHRISTMAS, end=CHRISTMAS.end + HOUR)
        rig.policy = with_blackouts(longer, TODAY)
        await rig.restart()
        await vtn.seen("oadrCreateOpt", 3)
        await rig.turn()
        assert opt_ids(vtn, "oadrCancelOpt") == [opt_ids(vtn)[0]]
        rig.policy = with_blackouts()
        await rig.restart()
        await vtn.seen("oadrCancelOpt", 3)
        await rig.turn()
        assert rig.registration.opts == ()
        assert vtn.count("oadrCreateOpt") == 3


async def test_a_vtn_that_registers_us_anew_is_told_its_blackouts_again_under_the_same_id(
    vtn, tmp_path
):
    async with Rig(tmp_path, vtn.url, policy=with_blackouts(CHRISTMAS)) as rig:
        await vtn.seen("oadrCreateOpt")
        await rig.rested()
        vtn.reply("oadrPoll", wire.request_reregistration())
        await rig.turn()
        await rig.turn()
        await rig.turn()
        assert len(opt_ids(vtn)) == 2
        assert len(set(opt_ids(vtn))) == 1


@pytest.mark.parametrize("refusal", [wire.created_opt("x", 469), status(404)])
async def test_schedules_that_are_not_supported_are_named_once_and_tried_after_registering(
    vtn, tmp_path, caplog, refusal
):
    vtn.reply("oadrCreateOpt", refusal)
    async with Rig(tmp_path, vtn.url, policy=with_blackouts(CHRISTMAS)) as rig:
        for _ in range(10):
            await rig.turn(HOUR.total_seconds())
        assert vtn.count("oadrCreateOpt") == 1
        assert rig.ven.link().trouble == ""
        assert rig.ven.link().lost_since is None
        named = [r for r in caplog.records if "opt" in r.message and r.levelname == "WARNING"]
        assert len(named) == 1
        vtn.reply("oadrPoll", wire.request_reregistration())
        await rig.turn()
        await rig.turn()
        await vtn.seen("oadrCreateOpt", 2)
        await rig.turn()
        (opt,) = rig.registration.opts
        assert opt.acknowledged


async def test_a_vtn_whose_opt_service_is_out_of_order_is_tried_again_now_and_then(vtn, tmp_path):
    vtn.reply("oadrCreateOpt", status(500), b"<html>")
    async with Rig(tmp_path, vtn.url, policy=with_blackouts(CHRISTMAS)) as rig:
        await rig.turn()
        await rig.turn()
        assert vtn.count("oadrCreateOpt") == 1
        for tries in (2, 3):
            await rig.turn(15 * 60)
            assert vtn.count("oadrCreateOpt") == tries
        await rig.turn()
        assert len(set(opt_ids(vtn))) == 1
        (opt,) = rig.registration.opts
        assert opt.acknowledged
