"""Who may call: a table of requests for each rule."""

import socket

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import Forbidden, NotAuthorised
from trillm.gateway.access import Access, Caller, own_hosts
from trillm.keys import Grants, KeyRecord, Keyring, digest, new_token

TOKEN, OPERATOR = new_token(), "operator-token-of-this-run"
LAPTOP = KeyRecord("laptop", digest(TOKEN), "2026-11-01")
PHONE = KeyRecord("phone", digest(new_token()), "2026-11-02")
KEYS = Keyring((LAPTOP, PHONE))
SEALED = Keyring(sealed=True)
LOOPBACK = own_hosts("127.0.0.1")

Headers = list[tuple[bytes, bytes]]


def access(keyring: Keyring = Keyring(), **settings) -> Access:  # noqa: B008 - a frozen value
    return Access(lambda: keyring, OPERATOR, **{"hosts": LOOPBACK} | settings)


def bearer(token: str | bytes) -> Headers:
    return [(b"authorization", b"Bearer " + (token if isinstance(token, bytes) else token.encode()))]


# ── with keys ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers",
    [
        bearer(TOKEN),
        [(b"authorization", f"bearer   {TOKEN} ".encode())],
        [(b"x-api-key", TOKEN.encode())],
        [(b"api-key", TOKEN.encode())],
        [(b"x-api-key", b""), (b"api-key", TOKEN.encode())],
        [(b"authorization", b"Basic abc"), (b"x-api-key", TOKEN.encode())],
        [*bearer(TOKEN), (b"host", b"evil.example"), (b"origin", b"https://evil.example")],  # a page cannot know a key
    ],
)
def test_a_key_lets_in_under_its_name(headers):
    assert access(KEYS).admit(headers) == Caller(key="laptop", is_operator=False)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([], "A key is needed"),
        ([(b"authorization", b"")], "A key is needed"),
        ([(b"authorization", b"Bearer")], "A key is needed"),
        ([(b"authorization", b"Bearer   ")], "A key is needed"),
        ([(b"authorization", b"Basic dXNlcjpwYXNz")], "A key is needed"),
        ([(b"authorization", TOKEN.encode())], "A key is needed"),
        ([(b"x-api-key", b"")], "A key is needed"),
        ([(b"x-api-key", b""), (b"api-key", b"")], "A key is needed"),
        (bearer("tl-unknown"), "unknown or was revoked"),
        (bearer(TOKEN + "x"), "unknown or was revoked"),
        (bearer(digest(TOKEN)), "unknown or was revoked"),
        (bearer(b"\xff\xfe\x00"), "unknown or was revoked"),
        (bearer("clé".encode()), "unknown or was revoked"),
        (bearer(TOKEN) + bearer("tl-unknown"), "unknown or was revoked"),
    ],
)
def test_without_a_known_one_nobody_is_let_in(headers, words):
    with pytest.raises(NotAuthorised, match=words) as caught:
        access(KEYS).admit(headers)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert TOKEN not in caught.value.message


def test_while_the_keys_cannot_be_read_nobody_is_let_in_but_the_operator():
    for headers in ([], bearer(TOKEN)):
        with pytest.raises(NotAuthorised):
            access(SEALED).admit(headers)
    assert access(SEALED).admit(bearer(OPERATOR)).is_operator


def test_a_key_that_is_revoked_is_refused_from_then_on():
    ring = [KEYS]
    rules = Access(lambda: ring[0], OPERATOR, hosts=LOOPBACK)
    assert rules.admit(bearer(TOKEN)).key == "laptop"
    ring[0] = Keyring((PHONE,))
    with pytest.raises(NotAuthorised):
        rules.admit(bearer(TOKEN))


@pytest.mark.parametrize("keyring", [Keyring(), KEYS, SEALED])
def test_the_command_line_of_this_account_is_the_operator(keyring):
    for headers in (bearer(OPERATOR), [(b"x-api-key", OPERATOR.encode())]):
        caller = access(keyring).admit(headers)
        assert (caller.key, caller.is_operator, caller.is_admin) == (None, True, True)


def test_whom_no_key_lets_in_may_look_but_not_administer():
    caller = access(Keyring()).admit([])
    assert (caller.is_operator, caller.is_admin) == (True, False)


def test_a_caller_is_looked_at_again_when_the_keys_have_changed():
    before = Caller(key="laptop")
    less = Keyring((evolve(KEYS.records[0], grants=Grants(tools=("chat",))),))
    assert access(KEYS).renew(before) == before
    assert access(less).renew(before).grants.tools == ("chat",)
    assert access(Keyring((evolve(KEYS.records[0], name="phone"),))).renew(before) is None
    assert access(SEALED).renew(before) is None
    assert access(Keyring()).renew(before) == before
    operator = access(KEYS).admit(bearer(OPERATOR))
    assert access(SEALED).renew(operator) == operator


def test_no_token_at_all_is_never_the_operators():
    rules = Access(lambda: KEYS, "", hosts=LOOPBACK)
    for headers in ([], [(b"x-api-key", b""), (b"api-key", b"")], bearer("")):
        with pytest.raises(NotAuthorised):
            rules.admit(headers)


def test_no_auth_ignores_keys_and_still_minds_browsers():
    rules = access(KEYS, needs_keys=False)
    assert rules.admit([(b"host", b"localhost")]) == Caller(is_operator=True)
    assert rules.admit(bearer("tl-unknown")) == Caller(is_operator=True)
    with pytest.raises(Forbidden):
        rules.admit([(b"host", b"evil.example")])


# ── without keys ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:8377",
        b"LocalHost:8377",
        b"127.0.0.1",
        b"127.0.0.1:8377",
        b"192.168.1.5:80",
        b"[::1]",
        b"[::1]:8377",
        b"[FE80::1%eth0]:8377",
        b"app.localhost:1",
        b"",
    ],
)
def test_our_own_names_and_any_address_are_let_in(host):
    assert access().admit([(b"host", host)]) == Caller(is_operator=True)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8377",
        b"localhost.evil.example",
        b"evil-localhost",
        b"127.0.0.1.evil.example",
        b"127.0.0.1@evil.example",
        b"[evil.example]:80",
        b"::1",
        b"[",
        b":8377",
        b"localhost, evil.example",
        b"\xff\xfe",
        "löcalhost".encode(),
    ],
)
def test_any_other_host_is_refused(host):
    with pytest.raises(Forbidden, match="--allowed-host") as caught:
        access().admit([(b"host", host)])
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"localhost:8377", b"http://localhost:8377"),
        (b"LOCALHOST:8377", b"HTTP://LocalHost:8377"),
        (b"localhost", b"http://localhost"),
        (b"127.0.0.1:8377", b"https://127.0.0.1:8377"),
        (b"[::1]:8377", b"http://[::1]:8377"),
    ],
)
def test_a_page_of_our_own_is_let_in(host, origin):
    assert access().admit([(b"host", host), (b"origin", origin)]).is_operator


@pytest.mark.parametrize("host", [b"localhost:8377", b"", None])
@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"http://localhost",
        b"http://localhost:3000",
        b"http://127.0.0.1:8377",
        b"http://localhost:8377.evil.example",
        b"http://localhost:8377@evil.example",
        b"http://localhost:8377/",
        b"null",
        b"file://",
        b"",
        b"http://[::1",
        b"http://[bad",
        b"\xff\xfe",
        b"chrome-extension://abcdef",
    ],
)
def test_a_page_from_anywhere_else_is_refused(host, origin):
    headers = [(b"origin", origin)] + ([] if host is None else [(b"host", host)])
    with pytest.raises(Forbidden, match="another origin") as caught:
        access().admit(headers)
    assert caught.value.status == 403


def test_a_host_may_be_allowed_by_name():
    rules = access(hosts=own_hosts("127.0.0.1", ["GPU.example"]))
    assert rules.admit([(b"host", b"gpu.example:443")]).is_operator
    with pytest.raises(Forbidden):
        rules.admit([(b"host", b"other.example")])


def test_the_machines_own_names_are_known(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Workstation")
    assert own_hosts("GPU1") == {"localhost", "gpu1", "workstation", "workstation.local"}


names = st.sampled_from([b"authorization", b"x-api-key", b"api-key", b"host", b"origin"])
values = st.binary() | st.sampled_from([b"Bearer ", b"http://[", b"[::1]:", b"localhost"])


@given(st.lists(st.tuples(names, st.builds(bytes.__add__, values, values))), st.sampled_from([Keyring(), KEYS, SEALED]))
def test_any_headers_are_let_in_or_refused(headers, keyring):
    try:
        caller = access(keyring).admit(headers)
    except (NotAuthorised, Forbidden):
        return
    assert caller.is_operator == (not keyring)
