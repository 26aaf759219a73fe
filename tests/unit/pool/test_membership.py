"""Which servers are served: the registry's, else those discovered, else the builtin one."""

from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from support.network import Network, refused
from support.pools import a_pool, a_route, a_server

from trillm.backends.detect import Discovered
from trillm.models import Found
from trillm.pool.member import Source
from trillm.pool.membership import FORGET_S, LOOK_AGAIN_S, Membership, serve_discovery
from trillm.pool.probe import serve_probes
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
        self.owner = "vllm"

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.port == 8000 and request.url.path == "/v1/models":
            self.looks += 1
        if request.url.port not in self.ports:
            raise refused(request)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m", "owned_by": self.owner, "max_model_len": 4096}]})
        return httpx.Response(200 if request.url.path in ("/health", "/version") else 404, json={"version": "0.33"})


@asynccontextmanager
async def looking(membership, machine, *, probed=True):
    """Look for servers, and at those that are there, for the time of the block."""
    async with open_control(Network(machine.answer)) as http, trio.open_nursery() as nursery:
        await nursery.start(serve_discovery, membership, http)
        if probed:
            await nursery.start(serve_probes, membership.pool, http)
        yield
        nursery.cancel_scope.cancel()


async def test_it_is_ready_after_the_first_look_and_looks_again_while_there_is_nothing(membership, autojump_clock):
    machine = Machine()
    membership.loaded(loaded())
    async with looking(membership, machine, probed=False):
        assert machine.looks > 0
        assert served(membership) == {"builtin": Source.BUILTIN}
        machine.ports = {8000}
        await trio.sleep(LOOK_AGAIN_S + 0.5)
        assert served(membership) == {"vllm": Source.DISCOVERED}


async def test_what_is_found_and_up_is_left_to_the_probes(membership, autojump_clock):
    machine = Machine(8000)
    membership.loaded(loaded())
    async with looking(membership, machine):
        await trio.sleep(1)
        before = machine.looks
        await trio.sleep(10 * LOOK_AGAIN_S)
        assert machine.looks - before <= 11  # one probe each time


async def test_another_one_is_found_while_one_is_there_already(membership, autojump_clock):
    machine = Machine(8000)
    membership.loaded(loaded())
    async with looking(membership, machine):
        machine.ports = {8000, 8080}
        await trio.sleep(LOOK_AGAIN_S + 1)
        assert served(membership) == {"vllm": Source.DISCOVERED, "vllm-8080": Source.DISCOVERED}
        assert list(membership.pool.catalog.entries) == ["m"]


async def test_one_that_is_gone_is_down_for_a_minute_and_then_forgotten(membership, autojump_clock):
    machine = Machine(8000)
    membership.loaded(loaded())
    async with looking(membership, machine):
        machine.ports = set()
        await trio.sleep(FORGET_S - LOOK_AGAIN_S)
        assert served(membership) == {"vllm": Source.DISCOVERED}
        assert membership.pool.members["vllm"].reachable is False
        await trio.sleep(3 * LOOK_AGAIN_S)
        assert served(membership) == {"builtin": Source.BUILTIN}
        machine.ports = {8000}
        await trio.sleep(LOOK_AGAIN_S + 0.5)
        assert served(membership) == {"vllm": Source.DISCOVERED}


async def test_one_that_comes_back_in_time_is_the_same_as_before(membership, autojump_clock):
    machine = Machine(8000)
    membership.loaded(loaded())
    async with looking(membership, machine):
        await trio.sleep(1)
        before = membership.pool.members["vllm"]
        machine.ports = set()
        await trio.sleep(FORGET_S / 2)
        machine.ports = {8000}
        await trio.sleep(FORGET_S)
        assert membership.pool.members["vllm"] is before
        assert before.reachable is True


async def test_another_kind_on_the_same_port_takes_its_place(membership, autojump_clock):
    machine = Machine(8000)
    membership.loaded(loaded())
    async with looking(membership, machine):
        await trio.sleep(1)
        machine.ports = set()
        await trio.sleep(LOOK_AGAIN_S + 1)
        machine.owner, machine.ports = "somebody", {8000}
        await trio.sleep(2 * LOOK_AGAIN_S)
        assert served(membership) == {"openai-8000": Source.DISCOVERED}


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
