from dataclasses import replace

import pytest

from tests.openadr.rig import PROGRAM
from tests.openadr3.rig import Rig3
from tests.openadr3.vtn import ScriptedVtn3, serving

CLIENT = ("client", "the secret")


@pytest.fixture(params=["3.1.0", "3.0.1"])
async def vtn(request):
    """A VTN that wants a token, with one program."""
    async with serving(ScriptedVtn3(request.param, client=CLIENT)) as scripted:
        scripted.program()
        yield scripted


@pytest.fixture
async def rig(vtn, tmp_path):
    """A VEN of that VTN's version, not started yet."""
    secret = tmp_path / "secret"
    secret.write_text(CLIENT[1])
    rig = Rig3(
        tmp_path,
        vtn.url,
        programs=(replace(PROGRAM, market_context="fast-dr"),),
        version=vtn.version,
        client_id=CLIENT[0],
        client_secret=secret,
    )
    yield rig
    await rig.stop()
