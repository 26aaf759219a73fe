"""Rankings are the same whatever serves them: ordered, cut, normalised, and answered as they were asked."""

import json

import pytest
import trio
from support.gateways import a_call, a_rig, answers
from support.pools import a_route, a_server, found
from support.retrievers import asked, by_path, embeds, path, ranks, ranks_as_tei
from support.servers import CLOSE

from trillm.gateway.call import read_call
from trillm.models import Capability, Operation

DOCUMENTS = ["poor 0.25", "best 0.75", "same 0.25", "half 0.5"]
RANKER, EMBEDDER = [Capability.RERANK], [Capability.EMBEDDINGS]


def ranking(**members):
    return a_call(Operation.RERANK, **{"documents": DOCUMENTS} | members)


def call_of(body: bytes):
    return read_call(Operation.RERANK, (), body)


def one(nursery, *steps, **settings):
    return a_rig(nursery, a_server("one", **settings), scripts={"one": [[steps] * 20]})


async def results(rig, **members):
    reply = await rig.ask(ranking(**members))
    assert reply.status == 200, reply.body
    return json.loads(reply.body)["results"]


async def warnings(rig, **members):
    return json.loads((await rig.ask(ranking(**members))).body)["meta"].get("warnings", [])


# ── whatever the server ─────────────────────────────────────────────────────────────────────────────────────────

KINDS = {"openai": ranks, "vllm": ranks, "infinity": ranks, "builtin": ranks, "tei": ranks_as_tei}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_batch", [None, 3, 1])
async def test_the_best_come_first_and_equal_ones_as_they_were_sent(kind, max_batch, autojump_clock, nursery):
    rig = one(nursery, KINDS[kind], kind=kind, max_batch=max_batch)
    ranked = await results(rig)
    assert [(result["index"], result["relevance_score"]) for result in ranked] == [
        (1, 0.75),
        (3, 0.5),
        (0, 0.25),
        (2, 0.25),
    ]


async def test_neither_top_n_nor_documents_are_asked_of_the_server(autojump_clock, nursery):
    rig = one(nursery, ranks)
    ranked = await results(rig, top_n=2, return_documents=True)
    assert [result["document"] for result in ranked] == [{"text": "best 0.75"}, {"text": "half 0.5"}]
    (request,) = rig.servers["one"].requests
    assert asked(request) == {"model": "m", "query": "Hi", "documents": DOCUMENTS}


async def test_objects_are_sent_as_texts_to_servers_that_know_no_other(autojump_clock, nursery):
    rig = one(nursery, ranks)
    ranked = await results(
        rig, documents=[{"title": "a", "rank": "0.5"}, {"title": "b", "rank": "0.75"}], rank_fields=["rank"]
    )
    assert [result["index"] for result in ranked] == [1, 0]
    assert asked(rig.servers["one"].requests[0])["documents"] == ["rank: 0.5", "rank: 0.75"]


async def test_what_the_server_tells_beside_its_answer_is_passed_on(autojump_clock, nursery):
    rig = one(nursery, ranks_as_tei, kind="tei")
    reply = await rig.ask(ranking())
    assert reply.headers[b"x-compute-tokens"] == b"20"
    assert json.loads(reply.body)["usage"] == {"prompt_tokens": 20, "total_tokens": 20}
    assert rig.journey.usage.prompt_tokens == 20


async def test_images_are_refused_where_nobody_can_rank_them(autojump_clock, nursery):
    rig = one(nursery, ranks, kind="llamacpp")
    reply = await rig.ask(ranking(documents=["a", {"image": "https://x.example/a.png"}]))
    assert reply.status == 400
    assert "llama.cpp" in reply.error()["message"]
    assert rig.servers["one"].requests == []


async def test_images_go_to_who_can_rank_them(autojump_clock, nursery):
    def ranks_anything(request):
        documents = asked(request)["documents"]
        scores = [{"index": i, "relevance_score": 0.5} for i, _ in enumerate(documents)]
        return answers(200, json.dumps({"results": scores}).encode())

    servers = [a_server("one", kind="llamacpp"), a_server("two", kind="vllm")]
    rig = a_rig(nursery, *servers, scripts={"one": [[[ranks]]], "two": [[[ranks_anything]] * 9]})
    for _ in range(5):
        assert len(await results(rig, documents=["a", {"image": "https://x.example/a.png"}])) == 2
    assert rig.servers["one"].requests == []


# ── scores ──────────────────────────────────────────────────────────────────────────────────────────────────────

LOGITS = ["far -40", "near 40", "nearer 50"]


async def test_logits_become_shares_and_that_is_said(autojump_clock, nursery):
    rig = one(nursery, ranks, kind="llamacpp")
    ranked = await results(rig, documents=LOGITS)
    assert [result["index"] for result in ranked] == [2, 1, 0]  # although both of them are shown as 1
    assert [result["relevance_score"] for result in ranked] == pytest.approx([1, 1, 0])
    assert await warnings(rig) == ["scores are the logistic function of what llama.cpp gives"]


@pytest.mark.parametrize(
    ("settings", "members", "first", "warned"),
    [
        ({"kind": "llamacpp", "score": "raw"}, {}, 50, True),
        ({"kind": "llamacpp"}, {"raw_scores": True}, 50, True),
        ({"kind": "llamacpp"}, {"use_activation": False}, 50, True),
        ({"kind": "openai", "score": "sigmoid"}, {}, 1, True),
        ({"kind": "openai"}, {}, 50, False),
    ],
)
async def test_scores_are_left_as_they_are_where_that_is_wanted(
    settings, members, first, warned, autojump_clock, nursery
):
    rig = one(nursery, ranks, **settings)
    assert (await results(rig, documents=LOGITS, **members))[0]["relevance_score"] == pytest.approx(first)
    assert bool(await warnings(rig, documents=LOGITS, **members)) is warned


async def test_a_great_many_documents_are_ranked_with_a_warning(autojump_clock, nursery):
    rig = one(nursery, ranks)
    assert "1000 documents" in (await warnings(rig, documents=["a 1"] * 1001))[0]


# ── dialects and models ─────────────────────────────────────────────────────────────────────────────────────────


async def test_pairs_are_scored_by_one_request_for_each_query(autojump_clock, nursery):
    rig = one(nursery, ranks)
    reply = await rig.ask(call_of(b'{"model":"m","text_1":["p","q","p"],"text_2":["a 1","b 2","c 3"]}'))
    assert [entry["score"] for entry in json.loads(reply.body)["data"]] == [1, 2, 3]
    assert sorted(asked(request)["query"] for request in rig.servers["one"].requests) == ["p", "q"]


@pytest.mark.parametrize("able", [RANKER, []], ids=["known to rank", "unknown"])
async def test_a_caller_that_names_no_model_gets_the_only_one_that_is_known_to_rank(able, autojump_clock, nursery):
    rig = one(nursery, ranks_as_tei, kind="tei")
    rig.pool.probed(rig.pool.members["one"], found("m", can=able))
    reply = await rig.ask(call_of(b'{"query":"q","texts":["a 1","b 2"]}'))
    if able:
        assert json.loads(reply.body) == [{"index": 1, "score": 2.0}, {"index": 0, "score": 1.0}]
        assert rig.journey.call.model == "m"
    else:
        assert (reply.status, json.loads(reply.body)["error_type"]) == (400, "Validation")


async def test_with_several_it_is_told_to_name_one_unless_a_route_stands_for_it(autojump_clock, nursery):
    call = call_of(b'{"query":"q","documents":["a 1"]}')
    servers = [a_server("one"), a_server("two", models=("n",))]
    for routes, status in (((), 400), ([a_route("rerank", "two/n")], 200)):
        rig = a_rig(nursery, *servers, scripts={"two": [[[ranks]]]}, routes=routes)
        rig.pool.probed(rig.pool.members["one"], found("m", can=RANKER))
        rig.pool.probed(rig.pool.members["two"], found("n", can=RANKER))
        reply = await rig.ask(call)
        assert reply.status == status
        assert routes or reply.error()["message"] == "Missing required parameter: 'model'. These can do rerank: m, n."


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"model":"x","query":"q","documents":["a"]}', {"message", "error"}),
        (b'{"model":"x","query":"q","documents":["a"],"top_k":1}', {"message", "error", "detail"}),
        (b'{"model":"x","query":"q","texts":["a"]}', {"error", "error_type"}),
    ],
)
async def test_errors_are_told_in_the_callers_dialect(body, told, autojump_clock, nursery):
    reply = await one(nursery, ranks).ask(call_of(body))
    assert reply.status == 404
    assert json.loads(reply.body).keys() == told


# ── by embeddings ───────────────────────────────────────────────────────────────────────────────────────────────

PLACES = ["west", "between", "north", "east"]


def by_embeddings(nursery, *steps, also=(), **settings):
    """A route to a server that embeds, and maybe to others that rank."""
    servers = [a_server("one", **settings), *(a_server(name, kind="openai") for name in also)]
    route = a_route("r", *(f"{name}/m" for name in also), "one/m", rank_by="embeddings")
    scripts = {"one": [[steps] * 20]} | {name: [[script] * 20] for name, script in dict(also).items()}
    rig = a_rig(nursery, *servers, scripts=scripts, routes=[route])
    rig.pool.probed(rig.pool.members["one"], found("m", can=EMBEDDER))
    for name in also:
        rig.pool.probed(rig.pool.members[name], found("m", can=RANKER))
    return rig


@pytest.mark.parametrize("max_batch", [None, 2])
async def test_a_server_that_only_embeds_ranks_by_the_cosine_if_the_route_says_so(max_batch, autojump_clock, nursery):
    rig = by_embeddings(nursery, embeds, max_batch=max_batch)
    ranked = await results(rig, model="r", query="east", documents=PLACES)
    assert [result["index"] for result in ranked] == [3, 1, 2, 0]
    assert [result["relevance_score"] for result in ranked] == pytest.approx([1, 0.5**0.5, 0, 0])
    assert all(path(request) == "/v1/embeddings" for request in rig.servers["one"].requests)
    assert "cosine" in (await warnings(rig, model="r", query="east", documents=PLACES))[0]
    assert rig.journeys[0].usage.prompt_tokens == 5


async def test_raw_cosines_may_be_negative(autojump_clock, nursery):
    ranked = await results(by_embeddings(nursery, embeds), model="r", query="east", documents=PLACES, raw_scores=True)
    assert ranked[-1] == {"index": 0, "relevance_score": pytest.approx(-1)}


async def test_without_such_a_route_a_model_that_only_embeds_is_refused(autojump_clock, nursery):
    rig = by_embeddings(nursery, embeds)
    reply = await rig.ask(ranking(model="one/m"))
    assert (reply.status, reply.error()["code"]) == (400, "model_not_capable")


async def test_who_can_rank_does_and_embeddings_are_for_when_nobody_can(autojump_clock, nursery):
    rig = by_embeddings(nursery, by_path(embeddings=embeds), also={"two": (ranks,)})
    assert [result["index"] for result in await results(rig, model="r")] == [1, 3, 0, 2]
    assert rig.servers["one"].requests == []
    broken = by_embeddings(nursery, by_path(embeddings=embeds), also={"two": (CLOSE,)})
    ranked = await results(broken, model="r", query="east", documents=PLACES)
    assert [result["index"] for result in ranked] == [3, 1, 2, 0]


async def test_images_have_no_cosine(autojump_clock, nursery):
    reply = await by_embeddings(nursery, embeds).ask(ranking(model="r", documents=[{"image": "u"}]))
    assert (reply.status, "text only" in reply.error()["message"]) == (400, True)


async def test_many_cosines_let_others_have_a_turn(autojump_clock, nursery):
    rig = by_embeddings(nursery, embeds)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as others:
            others.start_soon(count)
            await results(rig, model="r", query="east", documents=["north"] * 640)
            scope.cancel()
    assert turns > 10
