"""The contract holds for every face: each test here runs once per face."""

import pytest
from support.running import Sim, running


@pytest.fixture(params=["lane", "app"])
def face(request):
    """Which face answers the hot routes."""
    return request.param


@pytest.fixture
def run_trillm(tmp_path, face):
    """Run trillm with given simulators behind the face under test."""

    def run(sims, **settings):
        return running(tmp_path, sims, lane=face == "lane", **settings)

    return run


@pytest.fixture
async def trillm(run_trillm):
    async with run_trillm({"one": Sim()}) as trillm:
        yield trillm
