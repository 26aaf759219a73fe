"""Logging in to an MCP server that wants OAuth: once with a browser, then for as long as tokens can be renewed."""

import json
import threading
import urllib.request
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from support.httpd import Quiet, serving

from trillm.cli import mcplogin
from trillm.mcp.logins import Logins

TOOLS = {"tools": [{"name": "secret", "inputSchema": {"type": "object"}}]}


class Guarded:
    """An MCP server of the old era and its authorization server, at one address.

    Attributes:
        good: access tokens that are let in.
        lives_s: seconds, as it says, that a token is good.
        refuses: whether it turns the person away.
    """

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.granted: list[dict[str, str]] = []
        self.lives_s = 3600
        self.refuses = False
        self.url = ""

    def documents(self, path: str):
        if path.startswith("/.well-known/oauth-protected-resource"):
            return {"resource": f"{self.url}/mcp", "authorization_servers": [f"{self.url}"]}
        if path.startswith("/.well-known/oauth-authorization-server"):
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/oauth/token",
                "registration_endpoint": f"{self.url}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        return None

    def grant(self, asked: dict[str, str]):
        self.granted.append(asked)
        token = f"access-{len(self.granted)}"
        self.good.add(token)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.lives_s,
            "refresh_token": f"refresh-{len(self.granted)}",
        }

    def answer(self, asked):
        match asked["method"]:
            case "initialize":
                info = {"name": "guarded", "version": "1"}
                return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            case "tools/list":
                return TOOLS
            case "tools/call":
                return {"content": [{"type": "text", "text": "open sesame"}]}
        return None


@pytest.fixture
def guarded():
    place = Guarded()

    class Handler(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - the library's
            url = urlsplit(self.path)
            if url.path == "/authorize":
                asked = {name: values[0] for name, values in parse_qs(url.query).items()}
                back = {"error": "access_denied"} if place.refuses else {"code": "the-code"}
                self.send_response(302)
                self.send_header("location", f"{asked['redirect_uri']}?{urlencode(back | {'state': asked['state']})}")
                self.end_headers()
                return
            found = place.documents(url.path)
            self.answer(200 if found else 405, json.dumps(found).encode())

        def do_DELETE(self) -> None:  # noqa: N802 - the library's
            self.answer(200, b"{}")

        def do_POST(self) -> None:  # noqa: N802 - the library's
            body = self.rfile.read(int(self.headers["content-length"]))
            match urlsplit(self.path).path:
                case "/register":
                    self.answer(201, json.dumps(json.loads(body) | {"client_id": "trillm-1"}).encode())
                case "/oauth/token":
                    asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
                    self.answer(200, json.dumps(place.grant(asked)).encode())
                case _:
                    self.mcp(json.loads(body))

        def mcp(self, asked) -> None:
            if self.headers.get("authorization", "").removeprefix("Bearer ") not in place.good:
                self.send_response(401)
                where = f'Bearer resource_metadata="{place.url}/.well-known/oauth-protected-resource/mcp"'
                self.send_header("www-authenticate", where)
                self.send_header("content-length", "0")
                self.end_headers()
                return None
            result = place.answer(asked)
            if "id" not in asked:
                return self.answer(202, b"")
            reply = {"result": result} if result else {"error": {"code": -32601, "message": "no"}}
            return self.answer(200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], **reply}).encode())

    with serving(Handler) as place.url:
        yield place


@pytest.fixture
def browser(monkeypatch):
    """A browser that goes wherever it is sent."""

    def launch(url: str) -> None:
        threading.Thread(target=lambda: urllib.request.urlopen(url, timeout=10).read(), daemon=True).start()

    monkeypatch.setattr(mcplogin.click, "launch", launch)


@pytest.fixture
def docs(cli, guarded):
    cli("mcp", "add", "docs", "--url", f"{guarded.url}/mcp", "--no-check", "--era", "legacy")


def test_without_a_login_the_server_is_refused_and_what_to_do_is_said(cli, docs):
    outcome = cli("mcp", "call", "docs", "secret")

    assert outcome.code == 1
    assert "401 Unauthorized: give it a token by --header-env, or use 'trillm mcp login'" in outcome.err


def test_a_login_is_kept_for_this_account_alone_and_used_from_then_on(cli, docs, guarded, browser, store):
    outcome = cli("mcp", "login", "docs")

    assert (outcome.code, outcome.out.splitlines()[-1]) == (0, "Logged in to docs.")
    assert outcome.out.startswith(f"{guarded.url}/authorize?")
    kept = Logins.beside(store.path).path
    assert kept.stat().st_mode & 0o777 == 0o600
    assert cli("mcp", "call", "docs", "secret").out == "open sesame\n"
    assert [asked["grant_type"] for asked in guarded.granted] == ["authorization_code"]
    assert guarded.granted[0]["resource"] == f"{guarded.url}/mcp"
    assert "code_verifier" in guarded.granted[0]


def test_a_token_that_has_expired_is_renewed_without_a_person(cli, docs, guarded, browser):
    guarded.lives_s = 1
    cli("mcp", "login", "docs")
    guarded.good.clear()

    assert cli("mcp", "call", "docs", "secret").out == "open sesame\n"
    assert guarded.granted[-1]["grant_type"] == "refresh_token"
    assert guarded.granted[-1]["refresh_token"] == f"refresh-{len(guarded.granted) - 1}"


def test_a_login_that_is_good_no_more_is_asked_for_again(cli, docs, guarded, browser):
    cli("mcp", "login", "docs")
    guarded.good.clear()

    outcome = cli("mcp", "call", "docs", "secret")

    assert outcome.code == 1
    assert "the login has expired: trillm mcp login docs" in outcome.err


def test_a_login_is_sent_to_no_other_address(cli, docs, guarded, browser, store):
    cli("mcp", "login", "docs")
    cli("mcp", "add", "docs", "--url", f"{guarded.url}/other", "--replace", "--no-check", "--era", "legacy")

    assert Logins.beside(store.path).find(store.read().mcp_servers["docs"]) is None
    assert "401" in cli("mcp", "call", "docs", "secret").err


def test_a_refused_login_is_said_and_nothing_kept(cli, docs, guarded, browser, store):
    guarded.refuses = True

    outcome = cli("mcp", "login", "docs")

    assert outcome.code == 1
    assert "the login was refused: access_denied" in outcome.err
    assert "tokens" not in (Logins.beside(store.path).find(store.read().mcp_servers["docs"]) or {})


def test_logout_forgets(cli, docs, browser, store):
    cli("mcp", "login", "docs")

    assert cli("mcp", "logout", "docs").out == "Logged out of docs.\n"
    assert cli("mcp", "logout", "docs").out == "There was no login at docs.\n"
    assert not [path for path in store.path.parent.iterdir() if "access-" in path.read_text(errors="replace")]


def test_only_http_servers_can_be_logged_in_to(cli):
    cli("mcp", "add", "files", "--command", "x", "--no-check")

    assert "only a server with an http(s) URL" in cli("mcp", "login", "files").err
