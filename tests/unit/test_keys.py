import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.keys import Grants, KeyRecord, Keyring, digest, new_token


def ring_of(*tokens):
    return Keyring(tuple(KeyRecord(f"key{i}", digest(token), "2026-01-31") for i, token in enumerate(tokens)))


def test_a_token_carries_256_random_bits_in_characters_that_need_no_quoting():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"tl-[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_the_digest_is_plain_sha256():
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_token_finds_its_own_record_and_no_other():
    tokens = [new_token() for _ in range(3)]
    ring = ring_of(*tokens)
    assert [ring.find(token).name for token in tokens] == ["key0", "key1", "key2"]
    assert ring.find(new_token()) is None


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_may_be_presented_and_none_is_let_in(text):
    assert ring_of(new_token()).find(text) is None


def test_a_digest_is_not_accepted_as_its_token():
    ring = ring_of(new_token())
    assert ring.find(ring.records[0].digest) is None


@pytest.mark.parametrize(
    ("ring", "needed", "length"),
    [(Keyring(), False, 0), (ring_of("a", "b"), True, 2), (Keyring(sealed=True), True, 0)],
)
def test_a_ring_is_true_when_callers_need_a_key(ring, needed, length):
    assert bool(ring) is needed
    assert len(ring) == length


def test_a_sealed_ring_lets_nobody_in():
    assert Keyring(sealed=True).find("") is None


def test_nothing_shows_a_digest():
    ring = ring_of("secret")
    assert digest("secret") not in repr(ring)


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        (None, "anything", True),
        ((), "anything", False),
        (("llama3",), "llama3", True),
        (("llama3",), "llama3:8b", False),
        (("llama3*",), "gpu1/llama3", False),
        (("*llama*", "x"), "gpu1/llama3", True),
        (("Llama3",), "llama3", False),
    ],
)
def test_grants_are_patterns_over_names(patterns, name, allowed):
    grants = Grants(models=patterns, mcp_servers=patterns, tools=patterns)
    assert [grants.allow_model(name), grants.allow_server(name), grants.allow_tool(name)] == [allowed] * 3
    assert not grants.admin
