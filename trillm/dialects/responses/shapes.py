"""The shapes of a Responses request, as far as they are looked at. Source: OpenAI's API description 2.3.0.

Items of ``input`` differ by ``type``, which a message may leave out; so they are read as raw members first.
"""

from typing import Any

import msgspec


class InputText(msgspec.Struct, tag="input_text"):
    """Words of a caller's."""

    text: str


class OutputText(msgspec.Struct, tag="output_text"):
    """Words of an answer's."""

    text: str


class Refusal(msgspec.Struct, tag="refusal"):
    """Why there was no answer."""

    refusal: str


class PlainText(msgspec.Struct, tag="text"):
    """Words, as chat completions name them."""

    text: str


class InputImage(msgspec.Struct, tag="input_image"):
    """A picture."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(msgspec.Struct, tag="input_file"):
    """A document."""

    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class InputAudio(msgspec.Struct, tag="input_audio"):
    """Sound, in the shape that chat completions have too."""

    input_audio: msgspec.Raw


Part = InputText | OutputText | Refusal | PlainText | InputImage | InputFile | InputAudio


class ReasoningText(msgspec.Struct):
    """Thoughts, or a summary of them."""

    text: str = ""


class Item(msgspec.Struct):
    """One item of the input; which members matter depends on its type."""

    type: str | None = None
    role: str | None = None
    content: msgspec.Raw = msgspec.Raw(b"")
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None
    summary: list[ReasoningText] | None = None
    id: str | None = None
    server_label: str | None = None
    error: Any = None


class Tool(msgspec.Struct):
    """A tool on offer."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"")
    strict: bool | None = None


class NamedTool(msgspec.Struct):
    """One of those on offer."""

    type: str
    name: str | None = None
    mode: str | None = None
    tools: "list[NamedTool]" = []


class Format(msgspec.Struct):
    """The format of the answer."""

    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw(b"")
    strict: bool | None = None


class Text(msgspec.Struct):
    """How to answer in words."""

    format: Format | None = None
    verbosity: str | None = None


class Reasoning(msgspec.Struct):
    """How much to think."""

    effort: str | None = None


class Ask(msgspec.Struct):
    """The request."""

    input: str | list[Item]
    instructions: str | None = None
    tools: list[Tool] | None = None
    tool_choice: str | NamedTool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    background: bool | None = None
    stream: bool | None = None
    metadata: dict[str, Any] | None = None
