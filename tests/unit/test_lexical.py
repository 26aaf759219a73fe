"""Lexical similarity: the same everywhere, and related texts nearer than unrelated ones."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm import lexical


def similarity(a, b):
    return sum(x * y for x, y in zip(lexical.embed(a), lexical.embed(b), strict=True))


@pytest.mark.parametrize(("text", "related", "unrelated"), [
    ("How do I reset my password?", "Password reset instructions", "A recipe for chocolate cake"),
    ("The weather in Paris is sunny", "Sunny weather forecast for Paris", "Reset the router"),
    ("connecting to databases", "database connection", "a walk in the park"),
    ("Passwörter zurücksetzen", "Das Passwort zurücksetzen", "Wetter in Paris"),
    ("パスワードをリセット", "パスワードの再設定", "天気予報"),
])  # fmt: skip
def test_related_texts_are_nearer_than_unrelated_ones(text, related, unrelated):
    assert similarity(text, related) > similarity(text, unrelated) + 0.2


def test_long_texts_are_not_alike_only_for_being_long():
    numbers = " ".join(str(number) for number in range(1_000_000, 4_000_000, 10_007))
    letters = numbers.translate(str.maketrans("0123456789", "abcdefghij"))
    assert abs(similarity(numbers, letters)) < 0.3


@given(st.text(max_size=60), st.integers(1, 300))
def test_every_text_has_a_unit_vector_of_the_wanted_length(text, dimensions):
    vector = lexical.embed(text, dimensions)
    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1)


def test_case_and_punctuation_do_not_matter():
    assert lexical.embed("Hello, World!") == lexical.embed("hello world")


def test_vectors_are_the_same_in_another_process():
    code = "from trillm import lexical; print(lexical.embed('the same everywhere', 8))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(lexical.embed("the same everywhere", 8))


def test_documents_that_say_more_of_the_query_rank_higher():
    documents = ["bread and butter", "the cat sat on the mat", "a cat is a cat", "cat mat"]
    ranked = lexical.rank("cat mat", documents)
    assert [index for index, _ in ranked] == [3, 1, 2, 0]
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)
    assert ranked[-1][1] == 0


def test_rare_words_count_more_than_common_ones():
    documents = ["the the the", "zebra", "the", "the"]
    assert lexical.rank("the zebra", documents)[0][0] == 1


def test_among_equals_the_order_stays():
    assert [index for index, _ in lexical.rank("x", ["a", "x", "x", "b"])] == [1, 2, 0, 3]


@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_relevance_is_between_zero_and_one(query, documents):
    ranked = lexical.rank(query, documents)
    assert sorted(index for index, _ in ranked) == list(range(len(documents)))
    assert all(0 <= score <= 1 for _, score in ranked)
