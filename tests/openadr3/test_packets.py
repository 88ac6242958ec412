"""The agent as a process, openleadr-rs, and between them a router that drops packets (User Guide 8.10.1)."""

from datetime import UTC, datetime

import pytest

from agent.openadr.iso8601 import format_time
from tests.openadr3.network import Network
from tests.openadr3.openleadr import OpenleadrRs, Postgres, needed
from tests.openadr3.test_outage import Site

pytestmark = [
    pytest.mark.openadr3,
    pytest.mark.interop,
    pytest.mark.long,
    pytest.mark.timeout(300),
]


@pytest.fixture
def network():
    between = Network()
    try:
        between.build()
        yield between
    finally:
        between.remove()


@pytest.fixture
async def vtn(network):
    program, programs = needed()
    postgres = Postgres(programs)
    server = OpenleadrRs(program, postgres, host=network.here)
    try:
        await server.start()
        await server.admit()
        yield server
    finally:
        server.stop()
        postgres.remove()


async def test_a_site_cut_off_lives_under_its_subscription_and_is_up_to_date_with_the_first_poll(
    network, vtn, tmp_path
):
    program = await vtn.ask("POST", "programs", {"programName": "flexible-connection"})

    async def limited(kind, limit_kw, duration):
        payload = {"type": f"IMPORT_CAPACITY_{kind}", "values": [limit_kw]}
        period = {"start": format_time(datetime.now(UTC)), "duration": duration}
        event = {
            "programID": program["id"],
            "intervalPeriod": period,
            "intervals": [{"id": 0, "payloads": [payload]}],
        }
        await vtn.ask("POST", "events", event)

    await limited("SUBSCRIPTION", 25, "P9999Y")
    secret = tmp_path / "secret"
    secret.write_text(vtn.secret)
    login = {"client_id": vtn.client_id, "client_secret": str(secret)}
    site = Site(tmp_path, vtn.url, within=network.site, **login)
    try:
        await site.start()
        await site.shows(25_000, lost=False)
        await limited("LIMIT", 20, "PT40S")
        await site.shows(20_000, lost=False)
        network.drop()
        await site.shows(20_000, lost=True)
        await site.shows(25_000, lost=True)
        await limited("LIMIT", 15, "PT1H")
        network.carry()
        assert await site.found_again() == 15_000
    finally:
        await site.kill()
