"""What trillm's probes do to a real llama-server: they learn how busy it is, and let it sleep."""

from functools import partial

import pytest
import trio
from support import llama
from support.pools import a_pool, a_server

from trillm.backends.base import Site
from trillm.backends.llamacpp import LlamaCpp
from trillm.pool.pool import Pool
from trillm.pool.probe import ProbeSettings, serve_probes
from trillm.wire.control import Control, open_control

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not llama.is_here(), reason="no llama-server here, see CONTRIBUTING.md"),
]
OFTEN = ProbeSettings(every_s=0.5)
SLEEP_S = 2


@pytest.fixture
def url(tmp_path):
    with llama.running_llama(
        tmp_path, ["chat"], ["--metrics", "-np", "2", "--sleep-idle-seconds", str(SLEEP_S)]
    ) as urls:
        yield urls["chat"]


def pool_of_two(url: str) -> Pool:
    """A pool of one server under two names, which share their model then."""
    return a_pool(a_server("one", url=url, kind=None), a_server("two", url=url, kind=None))[0]


async def is_asleep(http: Control, url: str) -> bool:
    return (await http.get(f"{url}/props")).json()["is_sleeping"]


async def test_probes_neither_keep_it_awake_nor_wake_it(url):
    pool = pool_of_two(url)
    async with open_control() as http, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_probes, pool, http, settings=OFTEN))
        assert "one" in {member.name for member in pool.catalog.pooled}
        with trio.fail_after(SLEEP_S + 4):
            while not await is_asleep(http, url):
                await trio.sleep(0.1)
        for _ in range(20):
            assert await is_asleep(http, url)
            await trio.sleep(0.1)
        for member in pool.members.values():
            assert member.reachable
            assert "chat" in member.found.models[0].capabilities
        nursery.cancel_scope.cancel()


async def test_it_tells_how_many_requests_it_works_on_and_has_waiting(url):
    ask = {"prompt": "a", "n_predict": 1_000, "ignore_eos": True}
    told = set()
    async with open_control() as http:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(http.post, f"{url}/completion", ask)
            with trio.move_on_after(10):
                while 3 not in told:
                    told.add(await LlamaCpp().load(Site(LlamaCpp(), http, url)))
                    await trio.sleep(0.05)
        assert 3 in told
        assert await LlamaCpp().load(Site(LlamaCpp(), http, url)) == 0
