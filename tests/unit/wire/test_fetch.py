"""What is fetched from the internet for a caller: from public addresses alone, whatever names and redirects say."""

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.network import Network

from trillm.wire.control import open_control
from trillm.wire.fetch import FETCH_S, Fetcher, Refused, is_public

PUBLIC = "93.184.215.14"
NAMES = {
    "good.example": [PUBLIC],
    "other.example": ["2606:2800:21f:cb07:6820:80da:af6b:8b2c"],
    "inside.example": ["10.0.0.5"],
    "both.example": [PUBLIC, "127.0.0.1"],
    "none.example": [],
    "1.1.1.1": ["1.1.1.1"],
}


async def resolve(host: str, port: int) -> list[str]:
    await trio.lowlevel.checkpoint()
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


async def fetched(url: str, answers):
    """Fetch where ``answers`` maps a Host and a path to an answer; return it and what was asked."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((network.addresses[-1], request.headers["host"]))
        return answers[f"{request.headers['host']}{request.url.path}"]

    network = Network(answer)
    async with open_control(network) as http:
        return await Fetcher(http, resolve).fetch(url), asked


async def test_a_public_url_is_fetched_from_the_address_that_was_checked():
    answer, asked = await fetched("https://good.example/a.png", {"good.example/a.png": httpx.Response(200, text="x")})
    assert answer.body == b"x"
    assert asked == [(PUBLIC, "good.example")]


async def test_redirects_are_followed_and_checked():
    moved = httpx.Response(302, headers={"location": "http://other.example:8080/b"})
    answers = {"good.example/a": moved, "other.example:8080/b": httpx.Response(200, text="y")}
    answer, asked = await fetched("http://good.example/a", answers)
    assert answer.body == b"y"
    assert [name for _, name in asked] == ["good.example", "other.example:8080"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://good.example/", "only http"),
        ("file:///etc/passwd", "only http"),
        ("http://", "only http"),
        ("http://[", "no URL"),
        ("http://good.example:99999/", "no URL"),
        ("http://user:pw@good.example/", "user name"),
        ("http://inside.example/", "not a public address"),
        ("http://both.example/", "not a public address"),
        ("http://none.example/", "not a public address"),
        ("http://unknown.example/", "not found"),
    ],
)
async def test_anything_else_is_refused_and_nobody_is_asked(url, why):
    with pytest.raises(Refused, match=why):
        await fetched(url, {})


@pytest.mark.parametrize(
    "location", ["http://inside.example/", "http://both.example/", "file:///etc/passwd", "gopher://good.example", "//["]
)
async def test_a_redirect_to_where_it_may_not_go_is_refused(location):
    with pytest.raises(Refused):
        await fetched("http://good.example/a", {"good.example/a": httpx.Response(301, headers={"location": location})})


async def test_redirects_without_end_are_refused():
    again = httpx.Response(307, headers={"location": "/a"})
    with pytest.raises(Refused, match="redirects"):
        await fetched("http://good.example/a", {"good.example/a": again})


@pytest.mark.parametrize("status", [204, 404, 500])
async def test_an_answer_that_is_none_is_refused(status):
    with pytest.raises(Refused, match=str(status)):
        await fetched("http://good.example/a", {"good.example/a": httpx.Response(status)})


async def test_one_that_is_too_large_is_refused():
    with pytest.raises(Refused, match="larger"):
        await fetched("http://good.example/a", {"good.example/a": httpx.Response(200, content=b"x" * 9_000_000)})


async def test_one_that_takes_too_long_is_given_up(autojump_clock):
    async def never(host: str, port: int) -> list[str]:
        await trio.sleep_forever()

    async with open_control(Network(lambda _: httpx.Response(200))) as http:
        began = trio.current_time()
        with pytest.raises(Refused, match="within"):
            await Fetcher(http, never).fetch("http://good.example/")
    assert trio.current_time() - began == pytest.approx(FETCH_S)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1", "", "localhost",
        "0177.0.0.1",
    ],
)  # fmt: skip
def test_what_is_not_the_public_internets(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_what_is(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_no_private_address_gets_through_in_disguise(address):
    if not address.is_global or address.is_multicast:
        number = int(address)
        for disguise in (f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}"):
            assert not is_public(disguise)
