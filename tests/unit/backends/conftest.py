"""Servers that answer as recorded, in memory, under the real client and the real backends."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from trillm.models import Capability, Found, Model, Operation

RECORDED = Path(__file__).parent / "recorded"


class Replay:
    """Answers as a recorded server did; remembers what it was asked.

    Args:
        answers: ``"GET /path"`` to an answer: ``status``, ``headers``, and ``json`` or ``text``.
        otherwise: the answer to anything else.
    """

    def __init__(self, answers: Mapping[str, Any], otherwise: Mapping[str, Any]) -> None:
        self.asked: list[str] = []
        self.keys: set[str | None] = set()
        self.answers, self._otherwise = answers, otherwise

    def __call__(self, request: httpx.Request) -> httpx.Response:
        line = f"{request.method} {request.url.path}"
        self.asked.append(line)
        self.keys.add(request.headers.get("authorization"))
        answer = self.answers.get(line, self._otherwise)
        kinds = {name: answer[name] for name in ("headers", "json", "text") if name in answer}
        return httpx.Response(answer["status"], **kinds)


class Recording:
    """One file of ``recorded/``."""

    def __init__(self, name: str) -> None:
        data = json.loads((RECORDED / f"{name}.json").read_text())
        self.url: str = data.get("url", "http://gpu1.example:8000")
        self.transport = Replay(data["answers"], data["else"])
        self.found = found(data["found"]) if data["found"] else None


def found(data: Mapping[str, Any]) -> Found:
    models = (
        Model(each["id"], frozenset(map(Capability, each["capabilities"])), each["context_length"])
        for each in data["models"]
    )
    speaks = frozenset(map(Operation, data.get("speaks", ())))
    return Found(data["kind"], data["version"], tuple(models), data["slots"], data.get("max_batch"), speaks)


@pytest.fixture
def recording():
    """Return a function that loads a recording by its name."""
    return Recording
