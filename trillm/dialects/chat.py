"""What a chat completion says, read for being said again in another dialect: whole replies and chunks of a stream.

Source: OpenAI's API description 2.3.0, and the servers' habits: reasoning is ``reasoning`` (vLLM, Ollama) or
``reasoning_content`` (llama.cpp, DeepSeek), arguments of a tool call may come as an object, ``index`` may be missing.
"""

from typing import Any

import msgspec

from trillm.dialects.reading import NOT_JSON
from trillm.errors import UpstreamFailed


class Function(msgspec.Struct):
    """A called function: ``arguments`` is JSON in a string, or a piece of it; some servers send the object itself."""

    name: str | None = None
    arguments: Any = None


class ToolCall(msgspec.Struct):
    """A tool call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)

    @property
    def arguments(self) -> str:
        """The arguments as JSON text."""
        given = self.function.arguments
        if given is None or isinstance(given, str):
            return given or ""
        return msgspec.json.encode(given).decode()


class Message(msgspec.Struct):
    """A message, or the delta of one."""

    content: Any = None
    refusal: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: list[ToolCall] | None = None

    @property
    def text(self) -> str:
        """What is said."""
        if isinstance(self.content, list):
            parts = (part.get("text") for part in self.content if isinstance(part, dict))
            return "".join(text for text in parts if isinstance(text, str))
        return self.content if isinstance(self.content, str) else ""

    @property
    def thought(self) -> str:
        """What was thought before, under whichever name."""
        for said in (self.reasoning_content, self.reasoning):
            if said and isinstance(said, str):
                return said
        return ""


class Choice(msgspec.Struct):
    """One answer, or a piece of one."""

    index: int | None = 0
    message: Message | None = None
    delta: Message | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM: which stop string or token it was


class PromptDetails(msgspec.Struct):
    """Of the prompt's tokens."""

    cached_tokens: int | None = 0


class CompletionDetails(msgspec.Struct):
    """Of the answer's tokens."""

    reasoning_tokens: int | None = 0


class Usage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    @property
    def prompt(self) -> int:
        """Tokens of the prompt, cached ones included."""
        return self.prompt_tokens or 0

    @property
    def completion(self) -> int:
        """Tokens of the answer, thoughts included."""
        return self.completion_tokens or 0

    @property
    def cached(self) -> int:
        """Tokens of the prompt that did not have to be read again."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0

    @property
    def reasoning(self) -> int:
        """Tokens of the answer that were thoughts."""
        return (self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens) or 0


class Chat(msgspec.Struct):
    """A whole reply, or a chunk of a stream."""

    id: str | None = None
    created: float | None = None
    model: str | None = None
    choices: list[Choice] = []
    usage: Usage | None = None


_decode = msgspec.json.Decoder(Chat, strict=False).decode


def read_reply(body: bytes) -> Chat:
    """Return what a whole reply says.

    Raises:
        UpstreamFailed: it is no chat completion.
    """
    try:
        chat = _decode(body)
    except NOT_JSON as exc:
        raise UpstreamFailed(f"the server's answer is no chat completion: {exc}") from exc
    if not chat.choices:
        raise UpstreamFailed("the server's answer is no chat completion: it has no choices")
    return chat


def message_of(choice: Choice) -> Message:
    """Return what a choice of a whole reply says."""
    return choice.message or Message()


def read_chunk(data: bytes) -> Chat:
    """Return what the data of one event says.

    Raises:
        UpstreamFailed: it is no chunk of a chat completion.
    """
    try:
        return _decode(data)
    except NOT_JSON as exc:
        raise UpstreamFailed(f"the server's stream holds what is no chunk of a chat completion: {exc}") from exc
