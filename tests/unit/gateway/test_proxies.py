"""Which proxies are believed, and whom they name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import ConfigError, Forbidden
from trillm.gateway.access import Access, Caller, own_hosts
from trillm.gateway.proxies import UNIX, UNKNOWN, Peer, Proxies
from trillm.keys import Keyring
from trillm.settings import LOCAL_PROXIES


@pytest.mark.parametrize(
    ("listed", "believed", "not_believed"),
    [
        ("", [], ["127.0.0.1", "::1", UNIX]),
        (LOCAL_PROXIES, ["127.0.0.1", "::1", UNIX, "::ffff:127.0.0.1"], ["127.0.0.2", "10.0.0.1", "::2"]),
        ("10.0.0.0/8, 2001:db8::/32", ["10.1.2.3", "2001:db8:1::1"], ["11.0.0.1", "2001:db9::1", "127.0.0.1", UNIX]),
        ("10.0.0.5/8", ["10.1.2.3"], ["11.0.0.1"]),  # an address with a mask is its network
        (" unix: , ", [UNIX], ["127.0.0.1"]),
        ("*", ["127.0.0.1", "192.0.2.1", UNIX], []),
    ],
)
def test_who_is_believed(listed, believed, not_believed):
    proxies = Proxies.parse(listed)
    assert [address for address in believed if not proxies.peer(address).trusted] == []
    assert [address for address in not_believed if proxies.peer(address).trusted] == []


def test_who_is_not_known_is_not_believed():
    assert Proxies.parse("*").peer(None) == UNKNOWN


@pytest.mark.parametrize("listed", ["localhost", "10.0.0.0/33", "127.0.0.1;::1", "unix", "127.0.0.1,,evil"])
def test_what_is_no_address_is_refused_with_its_name(listed):
    with pytest.raises(ConfigError, match="--forwarded-allow-ips"):
        Proxies.parse(listed)


@pytest.mark.parametrize(
    ("told", "client"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 10.0.0.7"], "203.0.113.9"),  # two proxies of ours in a row
        (["6.6.6.6, 203.0.113.9"], "203.0.113.9"),  # what the client itself wrote stands to the left
        (["6.6.6.6", "203.0.113.9"], "203.0.113.9"),  # a line of its own for each proxy
        (["10.0.0.8,10.0.0.7"], "10.0.0.8"),  # all are ours: the farthest
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["2001:DB8::1"], "2001:db8::1"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["unknown"], "127.0.0.1"),
        (["203.0.113.9, _hidden"], "127.0.0.1"),
        (["203.0.113.9, nonsense, 10.0.0.7"], "10.0.0.7"),
        ([""], "127.0.0.1"),
        (["10.0.0.9," * 10_000 + "10.0.0.8"], "10.0.0.9"),  # nobody has that many; not all are looked at
    ],
)
def test_the_client_is_the_last_one_that_is_no_proxy_of_ours(told, client):
    proxies = Proxies.parse("127.0.0.1,10.0.0.0/8")
    headers = [(b"host", b"127.0.0.1"), *((b"x-forwarded-for", value.encode()) for value in told)]
    rules = Access(Keyring, "operator", proxies=proxies)
    assert rules.admit(headers, proxies.peer("127.0.0.1")).client == client


def test_whoever_is_not_believed_speaks_for_itself():
    proxies = Proxies.parse(LOCAL_PROXIES)
    headers = [(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-host", b"evil.example")]
    caller = Access(Keyring, "operator", proxies=proxies).admit(headers, proxies.peer("192.0.2.1"))
    assert caller == Caller(is_operator=True, client="192.0.2.1")


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_whatever_is_written_the_client_is_an_address(values):
    proxies = Proxies.parse("*")
    headers = [(b"x-forwarded-for", value) for value in values]
    client = proxies.client(Peer("127.0.0.1", trusted=True), headers)
    assert Proxies.parse(client) == Proxies.parse(client.upper())


# ── Host and Origin through a proxy, while there are no keys ────────────────────────────────────────────────────

PROXY = Peer("127.0.0.1", trusted=True)
STRANGER = Peer("192.0.2.1")


def admit(peer: Peer, **headers: str) -> Caller:
    rules = Access(Keyring, "operator", hosts=own_hosts("127.0.0.1", ["llm.example"]))
    return rules.admit([(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()], peer)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8377", "x_forwarded_host": "llm.example"},
        {"host": "127.0.0.1:8377", "x_forwarded_host": "llm.example", "origin": "https://llm.example"},
        {"host": "localhost", "x_forwarded_host": "LLM.example:444, inner", "origin": "https://llm.example:444"},
        {
            "host": "localhost",
            "x_forwarded_host": "llm.example",
            "x_forwarded_proto": "https",
            "origin": "https://llm.example",
        },
    ],
)
def test_a_page_of_the_host_that_a_proxy_stands_for_is_our_own(headers):
    assert admit(PROXY, **headers).is_operator


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost", "x_forwarded_host": "evil.example"},  # rebinding, through the proxy
        {"host": "evil.example", "x_forwarded_host": "localhost"},  # rebinding: such a page may write any header
        {"host": "localhost", "x_forwarded_host": "llm.example", "origin": "https://evil.example"},
        {"host": "localhost", "x_forwarded_host": "llm.example", "origin": "http://localhost"},
        {"host": "localhost", "x_forwarded_host": "llm.example", "origin": "null"},
        {
            "host": "localhost",
            "x_forwarded_host": "llm.example",
            "x_forwarded_proto": "https",
            "origin": "http://llm.example",  # of whoever stands between
        },
    ],
)
def test_a_strangers_page_is_one_through_a_proxy_too(headers):
    with pytest.raises(Forbidden):
        admit(PROXY, **headers)


def test_a_host_that_nobody_vouches_for_decides_nothing():
    with pytest.raises(Forbidden):
        admit(STRANGER, host="localhost", x_forwarded_host="llm.example", origin="https://llm.example")


@pytest.mark.parametrize(
    ("peer", "headers", "base"),
    [
        (PROXY, {}, "http://localhost:8377/"),
        (PROXY, {"x-forwarded-proto": "https"}, "https://localhost:8377/"),
        (PROXY, {"x-forwarded-proto": "https", "x-forwarded-host": "llm.example"}, "https://llm.example/"),
        (STRANGER, {"x-forwarded-proto": "https", "x-forwarded-host": "evil.example"}, "http://localhost:8377/"),
    ],
)
def test_the_page_shows_the_address_that_its_reader_used(peer, headers, base):
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert Access(Keyring, "operator").base_url(given, peer, "http://localhost:8377/") == base
