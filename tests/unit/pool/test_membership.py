"""Which servers are served: the registry's, else those discovered, else the builtin one."""

import httpx
import pytest
import trio
import trio.testing
from support.network import Network, refused
from support.pools import a_pool, a_route, a_server

from trillm.backends.detect import Discovered
from trillm.models import Found
from trillm.pool.member import Source
from trillm.pool.membership import LOOK_AGAIN_S, Membership, serve_discovery
from trillm.registry.document import Document
from trillm.registry.registry import RegistryLoaded, Snapshot
from trillm.wire.control import open_control

OLLAMA = Discovered("ollama", "http://127.0.0.1:11434", Found("ollama"))
BUILTIN = "http://127.0.0.1:5"


def loaded(*servers, routes=()) -> RegistryLoaded:
    document = Document(
        servers={server.name: server for server in servers}, routes={route.name: route for route in routes}
    )
    return RegistryLoaded(Snapshot(document))


def served(membership: Membership) -> dict[str, Source]:
    return {name: member.source for name, member in membership.pool.members.items()}


@pytest.fixture
def membership():
    return Membership(a_pool()[0], builtin_url=BUILTIN)


async def test_with_nothing_else_the_builtin_backend_is_served(membership):
    membership.loaded(loaded())
    assert served(membership) == {"builtin": Source.BUILTIN}
    builtin = membership.pool.members["builtin"]
    assert (builtin.server.url, builtin.kind) == (BUILTIN, "builtin")


async def test_without_a_builtin_backend_nothing_is_served():
    membership = Membership(a_pool()[0])
    membership.loaded(loaded())
    assert served(membership) == {}


async def test_what_was_discovered_takes_its_place(membership):
    membership.loaded(loaded())
    membership.discovered([OLLAMA])
    assert served(membership) == {"ollama": Source.DISCOVERED}
    assert membership.pool.members["ollama"].server.kind == "ollama"


async def test_what_the_registry_names_is_served_and_nothing_else(membership):
    membership.discovered([OLLAMA])
    membership.loaded(loaded(a_server("one"), a_server("two")))
    assert served(membership) == {"one": Source.REGISTRY, "two": Source.REGISTRY}


async def test_servers_that_are_disabled_are_the_operators_will_too(membership):
    membership.discovered([OLLAMA])
    membership.loaded(loaded(a_server("one", enabled=False)))
    assert served(membership) == {"one": Source.REGISTRY}


async def test_when_the_registry_is_emptied_what_was_discovered_comes_back(membership):
    membership.discovered([OLLAMA])
    membership.loaded(loaded(a_server("one")))
    membership.loaded(loaded())
    assert served(membership) == {"ollama": Source.DISCOVERED}


async def test_routes_come_with_the_servers(membership):
    membership.loaded(loaded(a_server("one"), routes=[a_route("fast", "one/m")]))
    assert membership.pool.catalog.entries["fast"].is_route


async def test_a_snapshot_that_changes_nothing_leaves_everyone_who_he_is(membership):
    membership.loaded(loaded(a_server("one")))
    before = membership.pool.members["one"]
    membership.loaded(loaded(a_server("one"), a_server("two")))
    assert membership.pool.members["one"] is before


# ── discovery ───────────────────────────────────────────────────────────────────────────────────────────────────


class Machine:
    """What listens on which port of this machine: vLLM, or nothing."""

    def __init__(self, *ports: int) -> None:
        self.ports = set(ports)
        self.looks = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.port == 8000 and request.url.path == "/v1/models":
            self.looks += 1
        if request.url.port not in self.ports:
            raise refused(request)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]})
        return httpx.Response(200 if request.url.path in ("/health", "/version") else 404, json={"version": "0.33"})


async def test_it_is_ready_after_the_first_look_and_looks_again_while_there_is_nothing(
    membership, nursery, autojump_clock
):
    machine = Machine()
    membership.loaded(loaded())
    async with open_control(Network(machine.answer)) as http:
        await nursery.start(serve_discovery, membership, http)
        looks_at_once = machine.looks
        assert looks_at_once > 0
        assert served(membership) == {"builtin": Source.BUILTIN}
        machine.ports = {8000}
        await trio.sleep(LOOK_AGAIN_S + 0.5)
        assert served(membership) == {"vllm": Source.DISCOVERED}
        looks = machine.looks
        await trio.sleep(10 * LOOK_AGAIN_S)
        assert machine.looks == looks  # found is found
        nursery.cancel_scope.cancel()


async def test_something_odd_that_listens_there_does_not_keep_trillm_from_starting(
    membership, nursery, autojump_clock, caplog
):
    async def confuses(_request: httpx.Request) -> httpx.Response:
        raise RecursionError("as a defect of ours would")

    membership.loaded(loaded())
    async with open_control(Network(confuses)) as http:
        await nursery.start(serve_discovery, membership, http)
        assert served(membership) == {"builtin": Source.BUILTIN}
        nursery.cancel_scope.cancel()
    assert "discovery broken" in caplog.text


async def test_it_does_not_look_while_the_registry_names_servers(membership, nursery, autojump_clock):
    machine = Machine(8000)
    membership.loaded(loaded(a_server("one")))
    async with open_control(Network(machine.answer)) as http:
        await nursery.start(serve_discovery, membership, http)
        await trio.sleep(5 * LOOK_AGAIN_S)
        assert machine.looks == 0
        membership.loaded(loaded())
        await trio.sleep(LOOK_AGAIN_S + 0.5)
        assert served(membership) == {"vllm": Source.DISCOVERED}
        nursery.cancel_scope.cancel()
