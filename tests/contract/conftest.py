"""The contract holds for every face: each test here runs once per face."""

import pytest
from support.running import Sim, running


@pytest.fixture
async def trillm(tmp_path):
    async with running(tmp_path, {"one": Sim()}) as trillm:
        yield trillm
