"""Public names and URIs: what is put together is taken apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.mcp import names

servers = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,9}(_[A-Za-z0-9-])?)?", fullmatch=True)


@given(servers, st.text(min_size=1))
def test_a_public_name_says_whose_it_is(server, name):
    assert names.split(names.public(server, name)) == (server, name)


@given(servers, st.text(min_size=1))
def test_an_explicit_uri_says_whose_it_is(server, uri):
    assert names.split_uri(names.explicit(server, uri)) == (server, uri)


@pytest.mark.parametrize("name", ["", "chat", "list_models", "__x", "x__"])
def test_a_name_of_no_server_is_trillms_own(name):
    assert names.split(name) is None


@pytest.mark.parametrize("uri", ["", "file:///a", "mcp://", "mcp://a", "mcp://a/", "mcp:///x"])
def test_a_uri_that_does_not_say_whose_it_is(uri):
    assert names.split_uri(uri) is None


@pytest.mark.parametrize(
    ("template", "uri", "fits"),
    [
        ("demo://{place}/weather", "demo://home/weather", True),
        ("demo://{place}/weather", "demo://a/b/weather", False),
        ("demo://{place}/weather", "demo://home/weathers", False),
        ("file://{+path}", "file:///a/b/c", True),
        ("file://{/path*}", "file:///a/b", True),
        ("http://a.example/{id}{?page}", "http://a.example/1?page=2", True),
        ("http://a.example/{id}{?page}", "http://a.example/1", True),
        ("http://a.example/{id}", "http://axexample/1", False),
        ("plain:x", "plain:x", True),
    ],
)
def test_a_template_fits_what_can_have_come_from_it(template, uri, fits):
    assert names.fits(template, uri) is fits
