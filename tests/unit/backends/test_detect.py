"""What is at an address, what it offers, and why not: every recorded server through the real client."""

import json
import math
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from support.network import Handler, Network, refused
from support.recorded import serve_recorded

from trillm.backends import KINDS
from trillm.backends.detect import discover, inspect
from trillm.errors import UpstreamBusy, UpstreamFailed
from trillm.models import Capability, Found, Model
from trillm.wire.control import open_control

RECORDED = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "recorded").glob("*.json")}
GOOD = sorted(name for name, data in RECORDED.items() if data["found"])


@pytest.mark.parametrize("name", GOOD)
async def test_a_server_is_recognised_and_what_it_offers_is_found(recording, name):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        assert await inspect(http, server.url, api_key="k") == server.found
    assert server.transport.keys == {"Bearer k"}


@pytest.mark.parametrize("name", GOOD)
async def test_with_its_kind_given_nothing_else_is_asked_of_it(recording, name):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        assert await inspect(http, server.url, kind=server.found.kind) == server.found
    foreign = {sign for backend in KINDS.values() for sign in backend.signs if backend.kind != server.found.kind}
    own = {*KINDS[server.found.kind].signs, "/v1/models"}
    assert not {f"GET {path}" for path in foreign - own} & set(server.transport.asked)


@pytest.mark.parametrize("name", [n for n in GOOD if not n.startswith("infinity") and "other_base" not in n])
async def test_v1_at_the_end_of_the_address_changes_nothing(recording, name):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        assert await inspect(http, server.url + "/v1/") == server.found


SAYS_WHO_IT_IS = {name for name in GOOD if name.startswith(("vllm", "infinity_prefix")) or name == "builtin"}


@pytest.mark.parametrize("name", sorted(set(GOOD) - SAYS_WHO_IT_IS))
async def test_recognition_alone_takes_one_get_for_each_path_and_no_post(recording, name):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        await inspect(http, server.url)
    signs = {f"GET {path}" for backend in KINDS.values() for path in backend.signs}
    first = server.transport.asked[: len(signs)]
    prefix = "/v1beta/openai" if "other_base" in name else ""
    assert sorted(first) == sorted(sign.replace(" ", f" {prefix}") for sign in signs)


@pytest.mark.parametrize("name", sorted(SAYS_WHO_IT_IS))
async def test_whose_list_of_models_says_what_it_is_need_not_be_asked_more(recording, name):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        await inspect(http, server.url)
    asked = set(server.transport.asked)
    assert not asked & {"GET /", "GET /props", "GET /info", "GET /api/v1/models", "GET /health/ready"}


async def test_where_nobody_is_one_question_shows_it():
    asked = []

    def nobody(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise refused(request)

    assert (await reason(nobody)).message == "connection refused"
    assert asked == ["/v1/models"]


async def test_who_breaks_off_whatever_is_asked_is_not_said_to_answer():
    def breaks(_request: httpx.Request) -> httpx.Response:
        raise trio.BrokenResourceError

    assert (await reason(breaks)).message == "the server broke the connection"


async def test_who_breaks_off_at_one_question_is_asked_the_others(recording):
    server = recording("ollama")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path in {"/v1/models", "/props"}:
            raise trio.BrokenResourceError
        return server.transport(request)

    async with open_control(Network(answer)) as http:
        assert await inspect(http, server.url) == server.found


@pytest.mark.parametrize("name", GOOD)
async def test_every_kind_is_healthy_when_it_is(recording, name):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        await KINDS[server.found.kind].healthy(http, server.url, None)
    assert len(server.transport.asked) == 1
    assert server.transport.asked[0].startswith("GET ")


async def test_a_sleeping_llamacpp_is_left_asleep(recording):
    server = recording("llamacpp_sleeping")
    async with open_control(Network(server.transport)) as http:
        await inspect(http, server.url)
    assert not [line for line in server.transport.asked if line.startswith("POST")]


@pytest.mark.parametrize("name", [name for name in GOOD if RECORDED[name]["found"]["models"]])
async def test_what_is_known_is_not_asked_again(recording, name):
    server = recording(name)
    async with open_control(Network(server.transport)) as http:
        assert await inspect(http, server.url, known=server.found) == server.found
    if server.found.models[0].capabilities:
        assert not [line for line in server.transport.asked if line.startswith("POST")]
    assert len(server.transport.asked) <= 3


async def test_a_server_of_no_particular_kind_is_looked_at_anew_when_it_has_other_models(recording):
    server = recording("vllm_chat")
    async with open_control(Network(server.transport)) as http:
        assert await inspect(http, server.url, known=Found("openai", models=(Model("other"),))) == server.found


async def test_a_llamacpp_that_fell_asleep_keeps_what_is_known_of_it(recording):
    server, model = recording("llamacpp_sleeping"), Model("sleepy", frozenset({Capability.EMBEDDINGS}))
    async with open_control(Network(server.transport)) as http:
        found = await inspect(http, server.url, known=Found("llamacpp", models=(model,)))
    assert found.models[0].capabilities == {Capability.EMBEDDINGS}


async def test_what_is_known_of_another_model_says_nothing_of_this_one(recording):
    server, other = recording("llamacpp_rerank"), Model("other", frozenset({Capability.CHAT}))
    async with open_control(Network(server.transport)) as http:
        assert await inspect(http, server.url, known=Found("llamacpp", models=(other,))) == server.found


# ── why not ───────────────────────────────────────────────────────────────────────────────────────────────


async def reason(transport: Handler, url="http://gpu1.example:8000", **more) -> UpstreamFailed:
    async with open_control(Network(transport)) as http:
        with pytest.raises(UpstreamFailed) as failed:
            await inspect(http, url, **more)
    assert "\n" not in failed.value.message
    return failed.value


async def test_a_llamacpp_that_loads_its_model_is_busy_not_unknown(recording):
    failure = await reason(recording("llamacpp_loading").transport)
    assert isinstance(failure, UpstreamBusy)
    assert failure.message == "llama.cpp is busy: Loading model"


async def test_a_llamacpp_that_wants_a_key_says_so(recording):
    failure = await reason(recording("llamacpp_wrong_key").transport)
    assert failure.message == "llama.cpp rejected the API key that trillm has for it, or wants one (401)."


async def test_an_unknown_server_that_wants_a_key_says_so():
    failure = await reason(lambda _: httpx.Response(401, json={"error": "Unauthorized"}))
    assert "wants one (401)" in failure.message


async def test_an_unknown_server_that_is_busy_is_not_called_unknown():
    answer = httpx.Response(429, headers={"retry-after": "7"})
    assert (await reason(lambda _: answer)).retry_after_s == 7


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            httpx.Response(404, text="404 page not found"),
            "answered 404: The OpenAI-compatible server cannot do what is asked (404 page not found)",
        ),
        (httpx.Response(200, text="<html>Welcome to nginx!</html>"), "answers, but not with a list of models"),
        (httpx.Response(200, json={"data": "none"}), "answers, but not with a list of models"),
        (httpx.Response(302, headers={"location": "https://b.example/"}), "redirecting to https://b.example/"),
        (httpx.Response(500), "answered 500: it gave no reason"),
    ],
)
async def test_what_answers_http_but_is_nothing_we_know(answer, said):
    failure = await reason(lambda _: answer)
    assert failure.message.startswith("answers HTTP but is no server trillm knows: ")
    assert said in failure.message


async def test_lm_studios_200_for_everything_is_no_sign_of_anything():
    answer = httpx.Response(200, json={"error": "Unexpected endpoint or method."})
    assert "no server trillm knows" in (await reason(lambda _: answer)).message


async def test_nobody_there():
    def refuse(request: httpx.Request) -> httpx.Response:
        raise refused(request)

    assert (await reason(refuse)).message == "connection refused"


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_given_kind_that_it_is_not(kind):
    answer = httpx.Response(200, json={"object": "something"})
    assert "answers, but not" in (await reason(lambda _: answer, kind=kind)).message


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_given_kind_where_every_path_is_absent(kind):
    answer = httpx.Response(404)
    assert "404" in (await reason(lambda _: answer, kind=kind)).message


async def test_infinity_under_a_prefix_names_the_address_to_give(recording):
    server = recording("infinity_prefix")
    failure = await reason(server.transport, "http://gpu1.example:7997")
    assert failure.message == "infinity's API is under http://gpu1.example:7997/v1: give trillm that address"
    failure = await reason(recording("infinity").transport, "http://gpu1.example:7997/v1")
    assert failure.message == "infinity's API is under http://gpu1.example:7997: give trillm that address"


# ── discovery ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def machine(recording):
    """Return the network of a machine with recorded servers on its ports; None is a server that never answers."""

    def build(servers: dict[int, str | None]) -> Handler:
        recordings = {port: recording(name) for port, name in servers.items() if name}

        async def answer(request: httpx.Request) -> httpx.Response:
            port = request.url.port
            if port in recordings:
                return recordings[port].transport(request)
            if port in servers:
                await trio.sleep_forever()
            raise refused(request)

        return answer

    return build


async def test_servers_on_their_usual_ports_are_discovered_sorted_and_named(machine, autojump_clock):
    running = {11434: "ollama", 1234: "lmstudio", 8080: "llamacpp_chat", 8000: "openai", 3000: None}
    async with open_control(Network(machine(running))) as http:
        discovered = await discover(http)
    assert [(one.name, one.url) for one in discovered] == [
        ("llamacpp-8080", "http://127.0.0.1:8080"),
        ("lmstudio", "http://127.0.0.1:1234"),
        ("ollama", "http://127.0.0.1:11434"),
        ("openai-8000", "http://127.0.0.1:8000"),
    ]
    assert discovered[2].found.version == "0.21.0"


async def test_discovery_ends_in_time_with_what_it_has(machine, autojump_clock):
    async with open_control(Network(machine({11434: "ollama", 3000: None}))) as http:
        began = trio.current_time()
        discovered = await discover(http, within_s=0.5)
    assert [one.name for one in discovered] == ["ollama"]
    assert trio.current_time() - began == pytest.approx(0.5)


async def test_a_port_of_two_kinds_is_looked_at_once(machine):
    async with open_control(Network(machine({8080: "tei_rerank"}))) as http:
        assert [one.name for one in await discover(http)] == ["tei-8080"]


async def test_infinity_under_a_prefix_is_discovered_with_it(machine):
    async with open_control(Network(machine({7997: "infinity_prefix"}))) as http:
        (one,) = await discover(http)
    assert (one.name, one.url) == ("infinity", "http://127.0.0.1:7997/v1")


async def test_trillms_are_no_servers_of_the_users_least_of_all_the_one_that_looks(machine):
    async with open_control(Network(machine({8000: "builtin", 8080: "builtin_gateway"}))) as http:
        assert await discover(http) == []


async def test_discovery_on_real_sockets_and_chosen_ports(nursery):
    async def ollama(stream: trio.abc.Stream) -> None:
        head = await stream.receive_some()
        bodies = {b"/": b"Ollama is running", b"/api/version": b'{"version":"1"}', b"/api/tags": b'{"models":[]}'}
        body = bodies.get(head.split()[1], b"")
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await stream.aclose()

    listeners = await nursery.start(partial(trio.serve_tcp, ollama, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        ports = {"ollama": [port], "vllm": [unused.getsockname()[1]]}
        async with open_control() as http:
            (one,) = await discover(http, ports=ports)
    assert (one.name, one.url, one.found.version) == ("ollama", f"http://127.0.0.1:{port}", "1")


async def test_silent_and_slow_ports_hold_a_look_up_for_less_than_a_second(nursery):
    good = await serve_recorded(nursery, "ollama", "vllm_chat", "lmstudio", "tei_rerank", "infinity_prefix")
    silent = await serve_recorded(nursery, *["openai"] * 5)
    slow = await serve_recorded(nursery, "llamacpp_chat", "tei_embeddings")
    for one, pause_s in [*((one, math.inf) for one in silent), *((one, 0.6) for one in slow)]:
        one.pause_s = pause_s
    ports = {str(number): [one.port] for number, one in enumerate([*good, *silent, *slow])}
    async with open_control() as http:
        began = trio.current_time()
        discovered = await discover(http, ports=ports)
        took_s = trio.current_time() - began
    assert {one.found.kind for one in discovered} == {"ollama", "vllm", "lmstudio", "tei", "infinity"}
    assert took_s < 1.0
    nursery.cancel_scope.cancel()
