"""Web pages of other origins: nobody is let in by default, and who is may read."""

import pytest

from trillm.errors import Forbidden
from trillm.gateway.access import Access, own_hosts
from trillm.gateway.cors import Cors
from trillm.keys import Keyring

PAGE = b"https://chat.example"
NAMED = Cors(frozenset({"https://chat.example"}))


def test_by_default_nothing_is_said():
    assert Cors().headers(PAGE) == []
    assert Cors().preflight(PAGE, None) == []


@pytest.mark.parametrize("cors", [NAMED, Cors(frozenset({"*"}))])
@pytest.mark.parametrize("origin", [PAGE, b"https://CHAT.example"])
def test_a_named_origin_may_read(cors, origin):
    told = dict(cors.headers(origin))
    assert told[b"access-control-allow-origin"] == origin
    assert b"x-request-id" in told[b"access-control-expose-headers"]
    assert told[b"vary"] == b"origin"


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"http://chat.example", b"https://chat.example:8443", b"null", None]
)
def test_any_other_may_not_and_no_cache_mixes_them_up(origin):
    assert NAMED.headers(origin) == [(b"vary", b"origin")]
    assert NAMED.preflight(origin, b"authorization") == [(b"vary", b"origin")]


def test_a_browser_that_asks_first_is_told_what_may_be_sent():
    told = dict(NAMED.preflight(PAGE, b"authorization,x-trillm-budget"))
    assert told[b"access-control-allow-headers"] == b"authorization,x-trillm-budget"
    assert told[b"access-control-allow-methods"] == b"GET, POST"


def test_without_keys_a_named_page_may_call_but_is_no_operator():
    rules = Access(Keyring, "token", hosts=own_hosts("127.0.0.1"), cors=NAMED)
    host = (b"host", b"localhost:8377")
    assert not rules.admit([host, (b"origin", PAGE)]).is_operator
    assert rules.admit([host]).is_operator
    with pytest.raises(Forbidden, match="--cors-origin"):
        rules.admit([host, (b"origin", b"https://evil.example")])
