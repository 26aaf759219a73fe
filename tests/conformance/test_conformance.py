"""The official suite through the gateway, once for each way to an upstream. Needs npm and PyPI the first time."""

import importlib.util
from pathlib import Path

import pytest
from support.foreign import Unavailable

_spec = importlib.util.spec_from_file_location("suites", Path(__file__).with_name("suites.py"))
suites = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(suites)


@pytest.fixture(scope="module")
def tools():
    try:
        return suites.prepare()
    except Unavailable as why:
        pytest.skip(str(why))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("transport", suites.TRANSPORTS)
def test_all_but_the_tasks_extension_passes_through_the_gateway(tools, transport, tmp_path):
    with suites.gateway(tools, transport, tmp_path) as url:
        outcomes = {suite: suites.run_suite(tools, suite, url, tmp_path) for suite in suites.EXPECTED}

    assert {suite: list(outcome.failing) for suite, outcome in outcomes.items()} == {
        suite: expected["failing"] for suite, expected in suites.EXPECTED.items()
    }
    for suite, outcome in outcomes.items():
        assert outcome.passed >= suites.EXPECTED[suite]["passed"]
