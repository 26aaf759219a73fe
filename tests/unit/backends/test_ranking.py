"""How each kind of server is asked for a ranking, and what it answers; the shapes are in ``exchanges/ranking.json``."""

import json
from pathlib import Path

import msgspec
import pytest
from attrs import evolve

from trillm.backends import KINDS
from trillm.dialects.ranking.scores import read_scores
from trillm.dialects.ranking.values import Question

RECORDED = json.loads((Path(__file__).parent / "exchanges" / "ranking.json").read_text())
QUESTION = Question("q", ["a", "b"], range(2))

recorded = pytest.mark.parametrize("record", RECORDED, ids=[f"{r['kind']}: {r['source'][:30]}" for r in RECORDED])


def asked(kind, question=QUESTION):
    return json.loads(KINDS[kind].ranking_request(question, "own"))


@recorded
def test_it_is_asked_in_its_own_shape(record):
    assert asked(record["kind"]) == record["request"]


@recorded
def test_its_answer_is_understood(record):
    headers = [(name.encode(), value.encode()) for name, value in record.get("headers", [])]
    scores = read_scores(json.dumps(record["answer"]).encode(), headers, 2)
    assert (scores.values, scores.tokens) == (record["scores"], record["tokens"])


@pytest.mark.parametrize(
    "record", [record for record in RECORDED if "raw" in record], ids=lambda record: record["kind"]
)
def test_raw_scores_are_asked_for_by_its_own_name(record):
    assert asked(record["kind"], evolve(QUESTION, raw=True)) == record["request"] | record["raw"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_settings_of_its_own_are_passed_on_and_never_stand_for_the_question(kind):
    options = {name: msgspec.Raw(b"1") for name in ("truncate", "query", "texts" if kind == "tei" else "documents")}
    body = asked(kind, evolve(QUESTION, options=options))
    assert body["truncate"] == 1
    assert body["query"] == "q"
    assert body["texts" if kind == "tei" else "documents"] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "truncate"),
    [({"truncation": b"true"}, True), ({"truncation": b"true", "truncate": b"false"}, False)],
)
def test_tei_truncates_when_voyages_clients_say_so(options, truncate):
    body = asked("tei", evolve(QUESTION, options={name: msgspec.Raw(value) for name, value in options.items()}))
    assert body["truncate"] is truncate


def test_media_are_passed_to_vllm_as_they_are():
    picture = msgspec.Raw(b'{"content": [{"type": "image_url", "image_url": {"url": "u"}}]}')
    assert asked("vllm", evolve(QUESTION, documents=["a", picture]))["documents"] == ["a", json.loads(bytes(picture))]


def test_which_kinds_rank_media_and_which_give_logits():
    assert [kind for kind, backend in KINDS.items() if backend.ranks_media] == ["vllm"]
    assert [kind for kind, backend in KINDS.items() if backend.scores_are_logits] == ["llamacpp"]
