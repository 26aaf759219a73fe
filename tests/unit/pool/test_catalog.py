"""What a name means, and what is said where it means nothing."""

import pytest
from support.pools import a_pool, a_route, a_server, found, reconfigure

from trillm.errors import BadRequest, NoSuchModel
from trillm.models import Capability, Model, Operation

CHAT, EMBEDDINGS, RERANK = Operation.CHAT, Operation.EMBEDDINGS, Operation.RERANK
CAN_CHAT, CAN_EMBED = frozenset({Capability.CHAT}), frozenset({Capability.EMBEDDINGS})


def a_catalog(models, *, routes=(), **settings):
    """The catalog of servers with these models, by name; None is a server that was not probed."""
    pool, _ = a_pool(*(a_server(name, **settings.get(name, {})) for name in models), routes=routes)
    for name, offered in models.items():
        if offered is not None:
            pool.probed(pool.members[name], found(*offered))
    return pool.catalog


def meaning(catalog, name, operation=CHAT) -> list[str]:
    """Who answers for a name, and by which model."""
    plan = catalog.resolve(name, operation).plan
    return [f"{candidate.member.name}:{candidate.model}" for candidate in plan.candidates]


async def test_a_bare_name_pools_every_server_that_has_it():
    catalog = a_catalog({"one": ["m", "n"], "two": ["m"]})
    assert meaning(catalog, "m") == ["one:m", "two:m"]
    assert meaning(catalog, "n") == ["one:n"]


async def test_a_server_can_be_named_before_the_model():
    catalog = a_catalog({"one": ["m"], "two": ["m", "org/name:7b"]})
    assert meaning(catalog, "two/m") == ["two:m"]
    assert meaning(catalog, "two/org/name:7b") == ["two:org/name:7b"]
    assert meaning(catalog, "org/name:7b") == ["two:org/name:7b"]


async def test_a_listed_name_is_not_taken_for_a_server_and_its_model():
    catalog = a_catalog({"org": ["name"], "two": ["org/name"]})
    assert meaning(catalog, "org/name") == ["two:org/name"]


async def test_a_listed_name_is_not_taken_for_a_model_of_a_server_that_was_not_seen_yet():
    catalog = a_catalog({"openai": None, "two": ["openai/gpt-oss-20b"]})
    assert meaning(catalog, "openai/gpt-oss-20b") == ["two:openai/gpt-oss-20b"]


async def test_a_route_comes_before_everything_else():
    routes = [a_route("m", "two/big", fallback=["one/m"]), a_route("one/m", "two/big")]
    catalog = a_catalog({"one": ["m"], "two": ["big"]}, routes=routes)
    assert meaning(catalog, "m") == ["two:big", "one:m"]
    assert meaning(catalog, "one/m") == ["two:big"]
    entry = catalog.resolve("m", CHAT)
    assert entry.is_route
    assert [len(entry.plan.primary), len(entry.plan.fallback)] == [1, 1]


async def test_of_a_server_that_was_not_seen_yet_any_model_may_be_asked_for():
    catalog = a_catalog({"new": None, "old": ["m"]})
    assert meaning(catalog, "new/anything/at:all") == ["new:anything/at:all"]
    with pytest.raises(NoSuchModel):
        catalog.resolve("old/anything", CHAT)
    with pytest.raises(NoSuchModel):
        catalog.resolve("anything", CHAT)


async def test_what_the_registry_lists_is_served_before_any_probe_and_nothing_else():
    catalog = a_catalog({"new": None}, new={"models": ("a",)})
    assert meaning(catalog, "a") == ["new:a"]
    with pytest.raises(NoSuchModel):
        catalog.resolve("new/b", CHAT)


async def test_the_registrys_list_hides_what_else_the_server_has():
    catalog = a_catalog({"one": [Model("a", CAN_EMBED), "b"]}, one={"models": ("a",)})
    assert list(catalog.entries) == ["a"]
    assert catalog.resolve("a", EMBEDDINGS).capabilities == CAN_EMBED


async def test_disabled_servers_have_no_names():
    routes = [a_route("r", "off/m"), a_route("both", "off/m", "on/n")]
    catalog = a_catalog({"off": ["m"], "on": ["n"]}, routes=routes, off={"enabled": False})
    for name in ("m", "off/m"):
        with pytest.raises(NoSuchModel):
            catalog.resolve(name, CHAT)
    assert meaning(catalog, "r") == []  # known, and nobody serves it now
    assert meaning(catalog, "both") == ["on:n"]


async def test_a_name_is_available_while_a_server_of_it_may_be_reached():
    pool, _ = a_pool(a_server("one"), a_server("two"))
    for member in pool.members.values():
        pool.probed(member, found("m"))
    entry = pool.catalog.entries["m"]
    pool.probed(pool.members["one"], NoSuchModel("any error"))
    assert entry.available
    pool.probed(pool.members["two"], NoSuchModel("any error"))
    assert not entry.available
    reconfigure(pool, a_server("one"), a_server("two", enabled=False))
    assert not pool.catalog.entries["m"].available


# ── what is said ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("lama3.2", "llama3.2"),
        ("llama3.3", "llama3.2"),
        ("LLAMA3.2", None),  # nothing close
        ("one/llama3", "one/llama3.2"),
        ("fsat", "fast"),
    ],
)
async def test_a_name_that_is_close_is_suggested(wrong, meant):
    catalog = a_catalog({"one": ["llama3.2", "nomic-embed"]}, routes=[a_route("fast", "one/llama3.2")])
    with pytest.raises(NoSuchModel) as caught:
        catalog.resolve(wrong, CHAT)
    assert caught.value.param == "model"
    assert repr(wrong) in caught.value.message
    assert ("Did you mean" in caught.value.message) == (meant is not None)
    assert repr(meant or "nomic-embed") in caught.value.message


async def test_without_a_close_one_what_there_is_is_listed_up_to_a_point():
    catalog = a_catalog({"one": [f"model-{i:02}" for i in range(12)]})
    with pytest.raises(NoSuchModel, match=r"'model-00', .*'model-09', …\.$"):
        catalog.resolve("gpt", CHAT)


async def test_where_there_is_nothing_that_is_said():
    with pytest.raises(NoSuchModel, match="no server offers any model now"):
        a_catalog({"one": None}).resolve("gpt", CHAT)


async def test_a_very_long_name_is_answered_soon_and_shortly():
    catalog = a_catalog({"one": ["m"]})
    with pytest.raises(NoSuchModel) as caught:
        catalog.resolve("x" * 1_000_000, CHAT)
    assert len(caught.value.message) < 500


# ── what a model can do ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_model_that_cannot_do_it_is_refused_with_those_that_can():
    catalog = a_catalog({"one": [Model("talker", CAN_CHAT), Model("embedder", CAN_EMBED)]})
    with pytest.raises(BadRequest) as caught:
        catalog.resolve("talker", EMBEDDINGS)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "model_not_capable", "model")
    assert error.message == ("The model 'talker' cannot do embeddings (it can do: chat). These can: 'embedder'.")
    with pytest.raises(BadRequest, match="No model here can"):
        catalog.resolve("talker", RERANK)
    with pytest.raises(BadRequest, match="cannot do chat"):
        catalog.resolve("one/embedder", CHAT)


async def test_a_model_of_which_nothing_is_said_is_tried_with_everything():
    catalog = a_catalog({"one": ["m"]})
    for operation in Operation:
        assert meaning(catalog, "m", operation) == ["one:m"]


async def test_of_servers_that_can_different_things_with_it_those_are_asked_that_can():
    offers = {"chats": [Model("m", CAN_CHAT)], "embeds": [Model("m", CAN_EMBED)]}
    catalog = a_catalog(offers, routes=[a_route("r", "chats/m", fallback=["embeds/m"])])
    for name in ("m", "r"):
        assert meaning(catalog, name, CHAT) == ["chats:m"]
        assert meaning(catalog, name, EMBEDDINGS) == ["embeds:m"]
        assert catalog.resolve(name, CHAT).capabilities == CAN_CHAT | CAN_EMBED


async def test_one_server_that_does_not_say_keeps_the_name_open_to_everything():
    catalog = a_catalog({"tells": [Model("m", CAN_EMBED)], "silent": ["m"]})
    assert catalog.entries["m"].capabilities == frozenset()
    assert meaning(catalog, "m", CHAT) == ["silent:m"]
    assert meaning(catalog, "m", EMBEDDINGS) == ["tells:m", "silent:m"]


async def test_completions_need_what_chat_needs():
    catalog = a_catalog({"one": [Model("talker", CAN_CHAT)]})
    assert meaning(catalog, "talker", Operation.COMPLETIONS) == ["one:talker"]
