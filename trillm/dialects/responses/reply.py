"""A chat completion's answer as a response, whole or as a stream of events. Pure.

Source: OpenAI's API description 2.3.0, and what its Python client 3.57 needs to put a stream together.
"""

import os
from typing import Any

import msgspec
from attrs import define, field

from trillm.dialects.blocks import Block, Is, Retelling, bare_id, ending, whole_blocks
from trillm.dialects.chat import message_of, read_reply
from trillm.dialects.responses import items
from trillm.errors import TrillmError

_DELTA = b'event: %b\ndata: {"type":"%b","sequence_number":%%d,%b,"delta":%%b}\n\n'


def from_chat(request: bytes, body: bytes) -> bytes:
    """Return a whole chat completion as the response to ``request``.

    Raises:
        UpstreamFailed: it is none.
    """
    chat = read_reply(body)
    choice = chat.choices[0]
    answer_id = bare_id(chat) or os.urandom(16).hex()
    said = message_of(choice)
    reason = ending(choice, called=bool(said.tool_calls))
    output = [items.item(block, answer_id, "completed") for block in whole_blocks(said, answer_id)]
    if output:
        output[-1]["status"] = items.status(reason)
    response = items.response(items.echo(request), chat, answer_id) | items.ending(reason)
    return msgspec.json.encode(response | {"output": output, "usage": items.usage(chat.usage)})


@define(eq=False)
class ResponseStream(Retelling):
    """A chat stream as a stream of response events.

    Args:
        request: what is answered.
    """

    request: bytes = field(repr=False)
    _number: int = field(default=0, init=False)
    _id: str = field(factory=lambda: os.urandom(16).hex(), init=False)
    _base: dict[str, Any] = field(factory=dict, init=False)
    #: The event that tells a piece of the open block, without its number and the piece.
    _delta: bytes = field(default=b"", init=False)
    _output: list[dict[str, Any]] = field(factory=list, init=False)

    def _begin(self) -> None:
        self._id = bare_id(self._chat) or self._id
        self._base = items.response(items.echo(self.request), self._chat, self._id)
        self._event("response.created", {"response": self._base})
        self._event("response.in_progress", {"response": self._base})

    def _open_block(self, block: Block) -> None:
        item = items.item(block, self._id, "in_progress")
        self._event("response.output_item.added", {"output_index": block.index, "item": item | items.unsaid(block)})
        name = f"response.{items.NAMES[block.kind]}.delta".encode()
        at = msgspec.json.encode(self._at(block))[1:-1].replace(b"%", b"%%")
        self._delta = _DELTA % (name, name, at)
        if block.kind is not Is.CALL:
            self._event("response.content_part.added", self._part_at(block) | {"part": items.part(block.kind, "")})

    def _grow_block(self, block: Block, text: str) -> None:  # noqa: ARG002 - it is the open one
        # Put together by hand: once per token.
        self._out.append(self._delta % (self._number, msgspec.json.encode(text)))
        self._number += 1

    def _close_block(self, block: Block) -> None:
        name = f"response.{items.NAMES[block.kind]}.done"
        item = items.item(block, self._id, items.status(self._choice.finish_reason))
        if block.kind is Is.CALL:
            self._event(name, self._at(block) | {"name": block.name, "arguments": item["arguments"]})
        else:
            member = "refusal" if block.kind is Is.REFUSAL else "text"
            self._event(name, self._at(block) | {member: block.text})
            self._event(
                "response.content_part.done", self._part_at(block) | {"part": items.part(block.kind, block.text)}
            )
        self._event("response.output_item.done", {"output_index": block.index, "item": item})
        self._output.append(item)

    def _end(self, reason: str) -> None:
        end = items.ending(reason)
        response = self._base | end | {"output": self._output, "usage": items.usage(self.usage)}
        self._event(f"response.{end['status']}", {"response": response})

    def _fail(self, error: TrillmError) -> None:
        failed = {"status": "failed", "error": {"code": error.code or "server_error", "message": error.message}}
        broken = [items.item(self._open, self._id, "incomplete")] if self._open else []
        self._event("response.failed", {"response": self._base | failed | {"output": self._output + broken}})

    def _at(self, block: Block) -> dict[str, Any]:
        """Return where a piece of a block belongs."""
        at = {"item_id": items.item_id(block, self._id), "output_index": block.index}
        if block.kind is Is.TEXT:
            return at | {"content_index": 0, "logprobs": []}
        return at if block.kind is Is.CALL else at | {"content_index": 0}

    def _part_at(self, block: Block) -> dict[str, Any]:
        return {"item_id": items.item_id(block, self._id), "output_index": block.index, "content_index": 0}

    def _event(self, name: str, value: dict[str, Any]) -> None:
        self._tell(name, {"sequence_number": self._number, **value})
        self._number += 1
