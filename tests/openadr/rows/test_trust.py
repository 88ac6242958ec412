"""Rows V30 to V32 of the research, and mutual TLS: what openleadr's own client gets wrong about trust."""

from datetime import UTC, datetime

import pytest

from tests.openadr.rig import Rig
from tests.openadr.vtn import OpenLeadrVtn, running

pytestmark = pytest.mark.openadr2


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
async def test_openleadrs_vtn_knows_us_by_the_fingerprint_of_our_certificate(
    tmp_path, authority, kind
):
    vtn_pair, ven = authority.issue("localhost", kind), authority.issue("ven", kind)
    server = OpenLeadrVtn(tls=vtn_pair, ca=authority.ca, fingerprint=ven.fingerprint)
    now = datetime.now(UTC).replace(microsecond=0)
    async with (
        running(server),
        Rig(tmp_path, server.url, at=now, ca=authority.ca, **ven.files) as rig,
    ):
        await rig.turn()
        server.add_event("ev-1", now, 3600.0, 1000.0)
        await rig.turn()
        assert server.opts == [("ev-1", "optIn")]
        assert server.seen_fingerprints == [ven.fingerprint]
        assert rig.ven.link().trouble == ""
