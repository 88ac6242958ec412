import pytest

from tests.openadr.pki import Authority
from tests.openadr.rig import Rig
from tests.openadr.vtn import ScriptedVtn, running


@pytest.fixture
async def vtn():
    async with running(ScriptedVtn()) as scripted:
        yield scripted


@pytest.fixture
async def rig(vtn, tmp_path):
    """A VEN against the scripted VTN, not started yet."""
    rig = Rig(tmp_path, vtn.url)
    yield rig
    await rig.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    """The utility's CA."""
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def running_rig(rig):
    """The same, after its first round."""
    rig.start()
    await rig.rested()
    return rig
