"""What openleadr's client does wrong with opts, against openleadr's own server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.event import Opt, OptDecision
from agent.core.lifecycle import opted_out
from agent.core.policy import Blackout, Policy
from tests.openadr.rig import Rig
from tests.openadr.vtn import OpenLeadrVtn, running

pytestmark = pytest.mark.openadr2


async def test_v27_a_vtn_without_eiopt_learns_of_a_change_of_mind_by_an_answer(tmp_path, caplog):
    """openleadr's client keeps the opt as told although the server has no EiOpt: it never hears of it."""
    now = datetime.now(UTC).replace(microsecond=0)
    blackout = Blackout(now + timedelta(days=1), now + timedelta(days=2), "Christmas")
    policy = Policy(max_import_w=100_000.0, blackouts=(blackout,))
    async with running(OpenLeadrVtn()) as vtn, Rig(tmp_path, vtn.url, at=now, policy=policy) as rig:
        await rig.rested()
        vtn.add_event("ev-1", now, 3600.0, 1000.0)
        await rig.turn()
        assert vtn.opts == [("ev-1", "optIn")]
        decision = OptDecision(Opt.OUT, "operator kim", rig.clock.now(), "maintenance")
        record = opted_out(replace(rig.record(), opt=decision), rig.clock.now())
        rig.book.put(record)
        rig.ven.tell(record)
        answer = await vtn.seen("oadrCreatedEvent", 2)
        assert answer.event_answers["ev-1"][:2] == (200, "optOut")
        for _ in range(5):
            await rig.turn()
        assert vtn.count("oadrCreatedEvent") == 2
        assert vtn.count("oadrCreateOpt") == 1  # the blackout's: there is no service to ask again
        assert [r.message for r in caplog.records if "takes no opts" in r.message] != []
        assert rig.ven.link().lost_since is None
        assert rig.ven.link().trouble == ""
