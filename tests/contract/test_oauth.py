"""Tokens of an authorization server, which here is a few lines on a loopback port."""

import json
import sys
import time

import jwt
import pytest
import trio
import trio_websocket as tw
from cryptography.hazmat.primitives.asymmetric import rsa
from support.mcpclient import hello, raw
from support.mcpfront import PROGRAM
from support.running import Sim, chat, running
from support.servers import ok
from support.tools import calls, mcp, turns

from trillm.keys import OAuthSettings
from trillm.registry.store import Store

RESOURCE = "https://llm.example/mcp"
KEY, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


def token(issuer, key=KEY, kid="one", **claims):
    now = time.time()
    said = {"iss": issuer, "aud": RESOURCE, "sub": "ada", "exp": now + 60, "scope": "mcp", **claims}
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key, algorithm="RS256", headers={"kid": kid})


@pytest.fixture
async def issuer(nursery):
    """Where an authorization server describes itself and shows its public keys."""

    async def serve(stream):
        async with stream:
            while request := await read_head(stream):
                path = request.split()[1].decode()
                if path == "/.well-known/oauth-authorization-server/tenant":
                    body = {"issuer": url, "jwks_uri": f"{url}/keys"}
                else:
                    assert path == "/tenant/keys"
                    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
                    body = {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}
                await stream.send_all(ok(json.dumps(body).encode(), b"content-type: application/json\r\n"))

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/tenant"
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    return url


async def read_head(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = await stream.receive_some()
        if not piece:
            return b""
        head += piece
    return head


def settings(issuer):
    return OAuthSettings(issuer, RESOURCE, ("mcp",))


async def initialize(trillm, **headers):
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello()}
    headers = {"accept": "*/*", "content-type": "application/json", **headers}
    return await trillm.client.post("/mcp", content=json.dumps(message), headers=headers)


async def test_a_client_is_told_where_to_get_a_token(tmp_path, issuer):
    async with running(tmp_path, {"one": Sim()}, oauth=settings(issuer)) as trillm:
        refused = await initialize(trillm)
        assert refused.status_code == 401
        where = "https://llm.example/.well-known/oauth-protected-resource/mcp"
        assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{where}"'
        for path in ("", "/mcp"):
            told = (await trillm.client.get(f"/.well-known/oauth-protected-resource{path}")).json()
            assert (told["resource"], told["authorization_servers"]) == (RESOURCE, [issuer])
        assert (await trillm.client.get("/v1/models")).status_code == 401


async def test_a_good_token_lets_in_everywhere_and_a_key_still_does(tmp_path, issuer):
    key = Store(tmp_path / "servers.json").keys.create("laptop")
    async with running(tmp_path, {"one": Sim()}, oauth=settings(issuer)) as trillm:
        for shown in (token(issuer), key):
            headers = {"authorization": f"Bearer {shown}"}
            assert (await initialize(trillm, **headers)).status_code == 200
            assert (await trillm.client.get("/v1/models", headers=headers)).status_code == 200
        bearer = [(b"authorization", f"Bearer {token(issuer, scope='mcp trillm:admin')}".encode())]
        async with raw(trillm, extra_headers=bearer) as mcp:
            await mcp.initialize()
            tools = [tool["name"] for tool in (await mcp.ask("tools/list"))["result"]["tools"]]
            assert "add_server" in tools


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "https://other.example/mcp"},
        {"iss": "https://other.example"},
        {"exp": time.time() - 3600},
        {"exp": None},
        {"aud": None},
        {"key": OTHER},
        {"kid": "two"},
    ],
    ids=["audience", "issuer", "expired", "no expiry", "no audience", "signature", "unknown key"],
)
async def test_a_token_that_is_not_for_us_is_refused(tmp_path, issuer, wrong):
    async with running(tmp_path, {"one": Sim()}, oauth=settings(issuer)) as trillm:
        shown = token(issuer, **wrong)
        assert (await initialize(trillm, authorization=f"Bearer {shown}")).status_code == 401


async def test_what_is_signed_with_nothing_or_with_the_public_key_is_refused(tmp_path, issuer):
    async with running(tmp_path, {"one": Sim()}, oauth=settings(issuer)) as trillm:
        claims = {"iss": issuer, "aud": RESOURCE, "sub": "ada", "exp": time.time() + 60, "scope": "mcp"}
        for algorithm, key in (("none", None), ("HS256", "x" * 64)):
            shown = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "one"})
            assert (await initialize(trillm, authorization=f"Bearer {shown}")).status_code == 401


async def test_a_token_without_the_scope_is_told_which(tmp_path, issuer):
    async with running(tmp_path, {"one": Sim()}, oauth=settings(issuer)) as trillm:
        refused = await initialize(trillm, authorization=f"Bearer {token(issuer, scope='other')}")
        assert refused.status_code == 403
        assert 'error="insufficient_scope", scope="mcp"' in refused.headers["www-authenticate"]


async def test_a_websocket_ends_with_its_token(tmp_path, issuer):
    async with running(tmp_path, {"one": Sim()}, oauth=settings(issuer)) as trillm:
        bearer = [(b"authorization", f"Bearer {token(issuer, exp=time.time() + 1.5)}".encode())]
        async with raw(trillm, extra_headers=bearer) as mcp:
            await mcp.initialize()
            with pytest.raises(tw.ConnectionClosed) as caught:
                await mcp.receive()
            assert caught.value.reason.code == 1008


async def test_an_issuer_that_is_not_there_lets_nobody_in_and_stops_nothing(tmp_path):
    async with running(tmp_path, {"one": Sim()}, oauth=settings("http://127.0.0.1:1")) as trillm:
        assert (await initialize(trillm, authorization=f"Bearer {token('x')}")).status_code == 401
        assert (await trillm.client.get("/health/ready")).status_code == 200


async def test_a_chat_of_a_tokens_bearer_has_tools_run_each_subject_in_a_session_of_its_own(tmp_path, issuer):
    demo = {"command": sys.executable, "args": ["-W", "ignore", PROGRAM, "stdio", "--era", "legacy"]}
    document = {"mcp_servers": {"demo": demo}, "budgets": {"chat": 20}}
    async with running(tmp_path, {"one": Sim()}, document=document, oauth=settings(issuer)) as trillm:

        async def remembered(subject):
            body = chat(tools=[mcp("demo")], x_sim=turns(calls("demo__remember"), tokens=80))
            bearer = f"Bearer {token(issuer, sub=subject)}"
            reply = await trillm.post("/v1/chat/completions", body, authorization=bearer)
            assert reply.status_code == 200, reply.text
            return reply.json()["choices"][0]["message"]["content"]

        assert "A tool said: 1" in await remembered("ada")
        assert "A tool said: 2" in await remembered("ada")
        assert "A tool said: 1" in await remembered("grace")
