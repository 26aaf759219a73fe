"""What the simulator says to a chat or a text completion. No I/O.

The text is labelled: its first words say that no language model wrote it. It then repeats what it was sent and fills up
to the wanted length; the same request and seed give the same text.
"""

import random
import zlib
from typing import Annotated

import msgspec

from trillm.errors import BadRequest
from trillm.sim import shapes
from trillm.sim.script import Answer
from trillm.sim.settings import Direction
from trillm.sim.shapes import Shape, Speech

IMAGE_TOKENS = 85

_FILLER = ("and", "so", "on", "one", "word", "after", "another", "as", "long", "as", "anyone", "likes", "to", "read")

_Count = Annotated[int, msgspec.Meta(ge=1)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Part(msgspec.Struct):
    type: str = "text"
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())

    @property
    def images(self) -> int:
        parts = self.content if isinstance(self.content, list) else ()
        return sum(part.type == "image_url" for part in parts)


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function | None = None


class _Generation(msgspec.Struct, kw_only=True):
    """What both kinds of request have in common."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=16)] | None = None
    x_sim: Direction | None = None


class ChatRequest(_Generation, kw_only=True):
    """The members of a chat request that are looked at."""

    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None


class CompletionRequest(_Generation, kw_only=True):
    """The members of a text completion request that are looked at."""

    prompt: str | list[str | int | list[int]]


def answer_chat(request: ChatRequest, *, tokens: int, seed: int) -> Answer:
    """Answer a chat.

    Args:
        request: decoded.
        tokens: how many an answer has, unless the request directs or limits it otherwise.
        seed: what the text depends on beside the request.

    Raises:
        BadRequest: it wants a tool called that it does not bring.
    """
    images = sum(message.images for message in request.messages)
    prompt_tokens = sum(_size(message.text) for message in request.messages) + IMAGE_TOKENS * images
    tool = _wanted_tool(request)
    if tool is not None:
        choices = [["{", "}"] for _ in range(request.n or 1)]
        return _answer(request, shapes.tool_call(tool), Speech(request.model, choices, "tool_calls", prompt_tokens))
    said = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    counts = f"{_plural(len(request.messages), 'message')}, {_plural(images, 'image')}"
    opening = f"Simulated answer, no language model: {counts}. You said: {_short(said)}"
    choices, reason = _texts(request, opening, tokens, seed)
    return _answer(request, shapes.CHAT, Speech(request.model, choices, reason, prompt_tokens))


def answer_completion(request: CompletionRequest, *, tokens: int, seed: int) -> Answer:
    """Continue one text or several; see :func:`answer_chat`.

    Raises:
        BadRequest: the prompt is made of token ids, or empty.
    """
    prompts = texts_only(request.prompt, "prompt")
    said = [_texts(request, f"Simulated text, no language model, after: {_short(p)}", tokens, seed) for p in prompts]
    choices = [choice for texts, _ in said for choice in texts]
    speech = Speech(request.model, choices, said[0][1], sum(map(_size, prompts)))
    return _answer(request, shapes.COMPLETION, speech)


def texts_only(value: str | list[str | int | list[int]], param: str) -> list[str]:
    """Return one text or several as a list.

    Raises:
        BadRequest: there is none, or it came as token ids.
    """
    items = [value] if isinstance(value, str) else value
    texts = [item for item in items if isinstance(item, str)]
    if not items:
        raise BadRequest(f"{param!r} must not be empty.", param=param)
    if len(texts) < len(items):
        raise BadRequest(
            f"{param!r} contains token ids; the simulator has no tokenizer and takes texts only "
            "(in LangChain: check_embedding_ctx_length=False).",
            param=param,
        )
    return texts


def _answer(request: _Generation, shape: Shape, speech: Speech) -> Answer:
    direction = request.x_sim or Direction()
    if request.stream:
        with_usage = bool(request.stream_options and request.stream_options.include_usage)
        return Answer(stream=shapes.stream(shape, speech, with_usage=with_usage), direction=direction)
    return Answer(shapes.whole(shape, speech), tokens=len(speech.choices[0]), direction=direction)


def _wanted_tool(request: ChatRequest) -> str | None:
    """Return the tool that must be called, if one must."""
    offered = [tool.function.name for tool in request.tools or () if tool.function]
    choice = request.tool_choice
    if not isinstance(choice, _Tool):
        return offered[0] if choice == "required" and offered else None
    if choice.function is None or choice.function.name not in offered:
        raise BadRequest("'tool_choice' names a function that is not among the tools.", param="tool_choice")
    return choice.function.name


def _texts(request: _Generation, opening: str, tokens: int, seed: int) -> tuple[list[list[str]], str]:
    """Return the tokens of each choice and their finish_reason."""
    if request.x_sim and request.x_sim.tokens:
        tokens = request.x_sim.tokens
    limit = request.max_completion_tokens or request.max_tokens or tokens
    choices = [_text(opening, min(tokens, limit), seed + i) for i in range(request.n or 1)]
    return choices, "length" if limit < tokens else "stop"


def _text(opening: str, tokens: int, seed: int) -> list[str]:
    """Return a text of so many tokens, each but the first with the blank before it."""
    words = opening.split()
    rng = random.Random(zlib.crc32(opening.encode("utf-8", "surrogatepass"), seed & 0xFFFFFFFF))  # noqa: S311 - no secret
    words += rng.choices(_FILLER, k=max(0, tokens - len(words)))
    return [words[0], *(f" {word}" for word in words[1:tokens])]


def _short(text: str) -> str:
    """Return the first few words, none of them long."""
    return " ".join(word[:24] for word in text[:400].split()[:8])


def _size(text: str) -> int:
    return text.count(" ") + 1


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
