import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import ConfigError
from trillm.models import Operation
from trillm.registry.document import Budgets, Document, McpServer, Route, Server, Target, ToolLimits

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)
seconds = st.none() | st.floats(min_value=0.001, max_value=86_400) | st.integers(1, 86_400)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=10).filter(str.strip)
# No key known to this version starts with an underscore, and none ever will.
extras = st.dictionaries(
    texts.map(lambda key: f"_{key}"), st.none() | st.integers() | texts | st.lists(texts), max_size=2
)
budgets = st.builds(
    Budgets,
    chat=seconds,
    embeddings=seconds,
    rerank=seconds,
    stall=seconds,
    total=seconds,
    ceiling=seconds,
    extra=extras,
)
servers = st.builds(
    Server,
    name=names,
    url=st.sampled_from(["http://gpu.example:8000", "https://cloud.example/v1", "http://[::1]:11434"]),
    kind=st.none() | names,
    api_key_env=st.none() | st.sampled_from(["CLOUD_KEY", "_K9"]),
    models=st.lists(texts, max_size=3).map(tuple),
    max_concurrent=st.none() | st.integers(1, 1000),
    max_batch=st.none() | st.integers(1, 1000),
    score=st.sampled_from([None, "raw", "sigmoid"]),
    truncate_dimensions=st.booleans(),
    weight=st.integers(1, 9) | st.floats(0.1, 100),
    budgets=budgets,
    enabled=st.booleans(),
    extra=extras,
)
mcp_fields = {
    "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,9}", fullmatch=True),
    "allow_tools": st.lists(texts, max_size=2).map(tuple),
    "enabled": st.booleans(),
    "era": st.sampled_from(["auto", "legacy", "modern"]),
    "sessions": st.sampled_from(["auto", "private", "shared"]),
    "sampling": st.none() | texts,
    "idle_s": st.integers(1, 86_400),
    "extra": extras,
}
variables = st.sampled_from(["TOKEN", "_K9"])
mcp = st.builds(
    McpServer,
    url=st.sampled_from(["https://a.example/mcp?ref=1", "ws://[::1]:1/mcp"]),
    header_env=st.dictionaries(st.sampled_from(["Authorization", "x-key"]), variables),
    **mcp_fields,
) | st.builds(
    McpServer,
    command=texts,
    args=st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF)), max_size=3).map(tuple),
    env=st.dictionaries(variables, texts),
    cwd=st.none() | texts,
    **mcp_fields,
)
limits = st.builds(ToolLimits, turns=st.integers(1, 99), call_s=st.floats(0.1, 100), extra=extras)


@st.composite
def documents(draw):
    known = {server.name: server for server in draw(st.lists(servers, max_size=4))}
    routes = {}
    mcp_servers = {server.name: server for server in draw(st.lists(mcp, max_size=3))}
    if known:
        targets = st.lists(st.builds(Target, st.sampled_from(sorted(known)), texts), min_size=1, max_size=3).map(tuple)
        some = st.builds(
            Route,
            name=names,
            to=targets,
            fallback=targets | st.just(()),
            mcp_servers=st.lists(st.sampled_from(sorted(mcp_servers) or ["none"]), max_size=len(mcp_servers)).map(
                tuple
            ),
            budgets=budgets,
            rank_by=st.sampled_from([None, "embeddings"]),
            extra=extras,
        )
        routes = {route.name: route for route in draw(st.lists(some, max_size=3))}
    return Document(
        budgets=draw(budgets),
        servers=known,
        routes=routes,
        mcp_servers=mcp_servers,
        tool_limits=draw(limits),
        extra=draw(extras),
    )


@given(documents())
def test_a_document_survives_writing_and_reading(document):
    assert Document.from_json(document.to_json()) == document


FULL = {
    "version": 1,
    "budgets": {"chat": 10, "stall": 2.5},
    "servers": {
        "gpu1": {
            "url": "http://gpu1.example:8000/v1",
            "kind": "vllm",
            "api_key_env": "GPU1_KEY",
            "models": ["llama-3.1-8b", "org/name"],
            "max_concurrent": 8,
            "max_batch": 32,
            "score": "sigmoid",
            "truncate_dimensions": True,
            "weight": 2,
            "budgets": {"chat": 30},
            "enabled": False,
        },
        "cloud": {"url": "https://cloud.example"},
    },
    "routes": {
        "fast": {
            "to": ["gpu1/llama-3.1-8b"],
            "fallback": ["cloud/org/gpt"],
            "mcp_servers": ["files"],
            "budgets": {"rerank": 1},
        },
        "nearest": {"to": ["gpu1/org/name"], "rank_by": "embeddings"},
    },
    "mcp_servers": {
        "files": {
            "command": "npx",
            "args": ["-y", "files-mcp", "/srv"],
            "env": {"LEVEL": "${LEVEL}"},
            "cwd": "/srv",
            "allow_tools": ["read_*"],
            "enabled": False,
            "era": "legacy",
            "sessions": "shared",
            "sampling": "fast",
            "start_s": 90,
            "list_s": 2,
            "call_s": 60,
            "idle_s": 30.5,
        },
        "docs": {"url": "https://docs.example/mcp", "header_env": {"Authorization": "DOCS_TOKEN"}},
    },
    "tool_limits": {"turns": 3, "call_s": 2.5},
}


def test_every_field_has_its_place_in_the_file():
    document = Document.from_json(FULL)
    assert document.to_json() == FULL
    assert document.servers["gpu1"] == Server(
        "gpu1",
        "http://gpu1.example:8000/v1",
        kind="vllm",
        api_key_env="GPU1_KEY",
        models=("llama-3.1-8b", "org/name"),
        max_concurrent=8,
        max_batch=32,
        score="sigmoid",
        truncate_dimensions=True,
        weight=2,
        budgets=Budgets(chat=30),
        enabled=False,
    )
    assert document.routes["fast"].fallback == (Target("cloud", "org/gpt"),)


def test_what_is_at_its_default_is_not_written():
    raw = {"servers": {"a": {"url": "http://a.example/", "weight": 1.0, "enabled": True, "kind": None, "models": []}}}
    assert Document.from_json(raw).to_json() == {"version": 1, "servers": {"a": {"url": "http://a.example"}}}
    assert Document().to_json() == {"version": 1}


def test_unknown_keys_are_kept_at_every_level():
    raw = {
        "version": 1,
        "budgets": {"chat": 1, "new": [1]},
        "servers": {"a": {"url": "http://a.example", "budgets": {"new": 2}, "new": {"deep": [{"x": None}]}}},
        "routes": {"r": {"to": ["a/m"], "new": 3, "budgets": {"new": 4}}},
        "mcp_servers": {"m": {"url": "http://a.example/mcp", "type": "http"}},
        "new": {"name": "x"},
    }
    assert Document.from_json(raw).to_json() == raw


def test_unknown_keys_outlive_a_change_of_what_stands_beside_them():
    document = Document.from_json({"servers": {"a": {"url": "http://a.example", "new": 1}}, "new": 2})
    changed = document.with_server(Server("b", "http://b.example")).to_json()
    assert changed["servers"]["a"]["new"] == 1
    assert changed["new"] == 2


def server(**fields):
    return {"servers": {"gpu1": {"url": "http://gpu1.example", **fields}}}


def route(**fields):
    return {**server(), "routes": {"fast": {"to": ["gpu1/m"], **fields}}}


BAD = [
    ([], "the file", "must be an object"),
    ({"version": 0}, "version", "must be a whole number from 1: 0"),
    ({"version": True}, "version", "must be a whole number from 1: True"),
    ({"version": "1"}, "version", "must be a whole number from 1: '1'"),
    ({"version": 2}, "version", "2 was written by a newer trillm, this one knows 1: upgrade trillm"),
    ({"budgets": 5}, "budgets", "must be an object"),
    ({"budgets": {"chat": 0}}, "budgets.chat", "must be seconds, above 0 and up to 86400: 0"),
    ({"budgets": {"stall": True}}, "budgets.stall", "must be seconds, above 0 and up to 86400: True"),
    ({"budgets": {"total": 10**400}}, "budgets.total", "must be seconds"),
    ({"budgets": {"ceiling": float("nan")}}, "budgets.ceiling", "must be seconds"),
    ({"servers": []}, "servers", "must be an object"),
    ({"servers": {"gpu1": "http://gpu1.example"}}, "servers.gpu1", "must be an object"),
    ({"servers": {"gpu1": {}}}, "servers.gpu1.url", "is missing"),
    ({"servers": {"a/b": {"url": "http://a.example"}}}, "servers.a/b", "a name starts with"),
    ({"servers": {"": {"url": "http://a.example"}}}, "servers.", "a name starts with"),
    ({"servers": {"a" * 64: {"url": "http://a.example"}}}, f"servers.{'a' * 64}", "has up to 63"),
    (server(url="foo"), "servers.gpu1.url", "not an http(s) URL: 'foo'"),
    (server(url=None), "servers.gpu1.url", "not an http(s) URL: None"),
    (server(url="ftp://gpu1.example"), "servers.gpu1.url", "not an http(s) URL"),
    (server(url="http://"), "servers.gpu1.url", "not an http(s) URL"),
    (server(url="http://gpu1.example:99999"), "servers.gpu1.url", "not an http(s) URL"),
    (server(url="http://[::1"), "servers.gpu1.url", "not an http(s) URL"),
    (server(url="http://gpu1.example/a b"), "servers.gpu1.url", "not an http(s) URL"),
    (server(url="http://gpu1.example/\r\nHost: x"), "servers.gpu1.url", "not an http(s) URL"),
    (server(url="http://büro.example"), "servers.gpu1.url", "not an http(s) URL"),
    (server(kind=""), "servers.gpu1.kind", "must be a text: ''"),
    (server(models="llama"), "servers.gpu1.models", "must be a list of names: 'llama'"),
    (server(models=["a", ""]), "servers.gpu1.models", "must be a list of names"),
    (server(models=None), "servers.gpu1.models", "must be a list of names: None"),
    (server(max_concurrent=0), "servers.gpu1.max_concurrent", "must be a whole number above 0: 0"),
    (server(max_concurrent=1.5), "servers.gpu1.max_concurrent", "must be a whole number above 0: 1.5"),
    (server(max_batch=0), "servers.gpu1.max_batch", "must be a whole number above 0: 0"),
    (server(score="logit"), "servers.gpu1.score", "must be raw or sigmoid: 'logit'"),
    (server(truncate_dimensions="yes"), "servers.gpu1.truncate_dimensions", "must be true or false: 'yes'"),
    (server(weight=0), "servers.gpu1.weight", "must be a number above 0: 0"),
    (server(weight="2"), "servers.gpu1.weight", "must be a number above 0: '2'"),
    (server(enabled=1), "servers.gpu1.enabled", "must be true or false: 1"),
    (server(budgets=[]), "servers.gpu1.budgets", "must be an object"),
    (
        server(budgets={"chat": -1}),
        "servers.gpu1.budgets.chat",
        "must be seconds, above 0 and up to 86400: -1",
    ),
    ({"routes": {"fast": {}}}, "routes.fast.to", "is missing"),
    ({"routes": {"fast": {"to": []}}}, "routes.fast.to", "needs at least one server/model"),
    ({"routes": {"fast": {"to": ["gpu9/m"]}}}, "routes.fast.to[0]", "no server named 'gpu9'"),
    ({"routes": {" ": {"to": ["gpu1/m"]}}}, "routes. ", "a name starts with"),
    (route(to="gpu1/m"), "routes.fast.to", "must be a list of server/model: 'gpu1/m'"),
    (route(to=["gpu1/m", "gpu1"]), "routes.fast.to[1]", "must be server/model: 'gpu1'"),
    (route(fallback=[7]), "routes.fast.fallback[0]", "must be server/model: 7"),
    (route(fallback=["gpu1/m", "gpu2/m"]), "routes.fast.fallback[1]", "no server named 'gpu2'"),
    (
        route(budgets={"rerank": "3"}),
        "routes.fast.budgets.rerank",
        "must be seconds, above 0 and up to 86400: '3'",
    ),
    (route(rank_by="cosine"), "routes.fast.rank_by", "must be embeddings: 'cosine'"),
    ({"mcp_servers": []}, "mcp_servers", "must be an object"),
    (route(mcp_servers="files"), "routes.fast.mcp_servers", "must be a list of names: 'files'"),
    (route(mcp_servers=["files"]), "routes.fast.mcp_servers[0]", "no MCP server named 'files'"),
    ({"tool_limits": []}, "tool_limits", "must be an object"),
    ({"tool_limits": {"turns": 0}}, "tool_limits.turns", "must be a whole number above 0: 0"),
    ({"tool_limits": {"call_s": 0}}, "tool_limits.call_s", "must be seconds, above 0 and up to 86400: 0"),
]


@pytest.mark.parametrize(("raw", "where", "problem"), BAD, ids=lambda value: None)
def test_a_bad_field_is_named_by_its_path(raw, where, problem):
    with pytest.raises(ConfigError) as caught:
        Document.from_json(raw)
    assert caught.value.where == where
    assert problem in caught.value.problem
    assert caught.value.message == f"{where}: {caught.value.problem}"


def test_a_value_made_in_code_is_checked_as_one_from_the_file():
    with pytest.raises(ConfigError, match=r"^servers\.gpu1\.url: not an http\(s\) URL: 'foo'$"):
        Server("gpu1", "foo")


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "https://me:hunter2@cloud.example"},
        {"url": "https://cloud.example/v1?key=hunter2"},
        {"url": "http://me:hunter2@cloud.example:bad"},
        {"api_key_env": "sk-hunter2"},
        {"api_key_env": ["hunter2"]},
        {"budgets": "hunter2"},
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(fields):
    with pytest.raises(ConfigError) as caught:
        Document.from_json(server(**fields))
    assert "hunter2" not in str(caught.value)


def test_a_key_comes_from_the_environment_and_is_never_shown(monkeypatch):
    with_key = Server("gpu1", "http://gpu1.example", api_key_env="GPU1_KEY", extra={"note": "hunter2"})
    secret = McpServer("a", command="a", env={"PASSWORD": "hunter2"}, extra={"note": "hunter2"})
    monkeypatch.setenv("GPU1_KEY", "hunter2")
    assert with_key.api_key == "hunter2"
    assert "hunter2" not in repr(Document(servers={"gpu1": with_key}, mcp_servers={"a": secret}))
    monkeypatch.delenv("GPU1_KEY")
    assert with_key.api_key is None
    assert Server("gpu1", "http://gpu1.example").api_key is None


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://a.example/", "http://a.example"),
        ("http://a.example/v1/", "http://a.example/v1"),
        ("https://127.0.0.1:8000//", "https://127.0.0.1:8000"),
    ],
)
def test_trailing_slashes_of_a_url_are_dropped_and_its_path_is_kept(url, kept):
    assert Server("a", url).url == kept


def test_the_first_slash_of_a_target_splits():
    target = Target.parse("gpu1/org/name:7b")
    assert target == Target("gpu1", "org/name:7b")
    assert str(target) == "gpu1/org/name:7b"


@pytest.mark.parametrize("text", ["", "gpu1", "/m", "gpu1/", None])
def test_a_target_needs_both_parts(text):
    with pytest.raises(ConfigError, match="target: must be server/model"):
        Target.parse(text)


def test_whatever_ends_in_a_chat_has_the_budget_of_chat():
    budgets = Budgets(chat=1, embeddings=2)
    others = {Operation.EMBEDDINGS: 2, Operation.RERANK: None}
    assert [budgets.for_operation(operation) for operation in Operation] == [others.get(op, 1) for op in Operation]


def test_servers_and_routes_come_and_go_without_touching_the_document_they_came_from():
    empty = Document()
    one = empty.with_server(Server("a", "http://a.example"))
    routed = one.with_route(Route("r", (Target("a", "m"),)))
    assert not empty.servers
    assert routed.without_route("r") == one
    assert one.without_server("a") == empty


def test_a_server_that_a_route_needs_is_not_removed():
    document = Document.from_json(route())
    with pytest.raises(ConfigError, match=r"^servers\.gpu1: route 'fast' needs it, change that first$"):
        document.without_server("gpu1")


def test_removing_what_is_not_there_says_what_is():
    document = Document.from_json(route())
    with pytest.raises(ConfigError, match=r"^servers\.gpu9: no server of that name; there are: gpu1$"):
        document.without_server("gpu9")
    with pytest.raises(ConfigError, match=r"^routes\.slow: no route of that name; there are: fast$"):
        document.without_route("slow")
    with pytest.raises(ConfigError, match="there are: none"):
        Document().without_route("slow")


def test_a_route_may_not_be_added_to_a_server_that_is_not_there():
    with pytest.raises(ConfigError, match=r"^routes\.r\.to\[0\]: no server named 'a'$"):
        Document().with_route(Route("r", (Target("a", "m"),)))


def test_a_document_cannot_be_changed_in_place():
    document = Document.from_json(FULL)
    with pytest.raises(TypeError):
        document.servers["x"] = document.servers["gpu1"]


def test_servers_and_routes_can_be_keys_of_a_dictionary():
    document = Document.from_json(FULL)
    assert len({*document.servers.values(), *document.routes.values()}) == 4
