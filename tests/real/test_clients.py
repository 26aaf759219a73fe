"""Every client library that is installed, by the probes of ``python -m tests.compatibility``, which installs them."""

import pytest

from tests.compatibility.clients import CLIENTS
from tests.compatibility.environments import PLACE, is_installed
from tests.compatibility.run import try_client
from tests.compatibility.servers import running_trillm


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_trillm(tmp_path_factory.mktemp("trillm")) as site:
        yield site


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_library_works(client, request):
    if not is_installed(client):
        pytest.skip(f"{client.name} is not in {PLACE}: python -m tests.compatibility --only '{client.name}'")
    report = try_client(client, request.getfixturevalue("site"))
    assert report.problem == ""
    assert [(result.what, result.on, result.note) for result in report.results if not result.ok] == []
    assert report.results
