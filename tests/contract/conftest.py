"""The contract holds for every face: each test here runs once per face."""

import pytest
import trustme
from support.running import Sim, running

#: What answers the hot routes, and how it is reached. Tests that write raw bytes speak HTTP/1.1.
PLAIN = ("lane", "lane without epoll", "app")
SECURE = ("lane+tls", "app+h2")
FACES = {"test_hostile": (*PLAIN, "lane+tls"), "test_leaving": PLAIN}


def pytest_generate_tests(metafunc):
    if "face" in metafunc.fixturenames:
        name = metafunc.module.__name__.rpartition(".")[2]
        metafunc.parametrize("face", FACES.get(name, PLAIN + SECURE))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """An authority that signed a certificate for 127.0.0.1, and the file with that certificate and its key."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return authority, path


@pytest.fixture
def run_trillm(tmp_path, face, certificate, monkeypatch):
    """Run trillm with given simulators behind the face under test."""
    monkeypatch.setattr("trillm.wire.poller.AVAILABLE", face != "lane without epoll")

    def run(sims, **settings):
        if "+" not in face:
            return running(tmp_path, sims, lane=face != "app", **settings)
        authority, path = certificate
        return running(
            tmp_path, sims, lane=True, certfile=path, authority=authority, http2=face.endswith("h2"), **settings
        )

    return run


@pytest.fixture
async def trillm(run_trillm):
    async with run_trillm({"one": Sim()}) as trillm:
        yield trillm
