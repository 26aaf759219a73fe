"""The shapes of a Messages request, as far as they are looked at. Source: the types of Anthropic's client 2.14."""

import msgspec


class Text(msgspec.Struct, tag="text"):
    """Words."""

    text: str


class Base64(msgspec.Struct, tag="base64"):
    """The thing itself."""

    media_type: str
    data: str


class Url(msgspec.Struct, tag="url"):
    """Where it is."""

    url: str


class File(msgspec.Struct, tag="file"):
    """A file kept by Anthropic."""

    file_id: str


class Plain(msgspec.Struct, tag="text"):
    """A document that is words."""

    data: str


class Content(msgspec.Struct, tag="content"):
    """A document made of blocks."""

    content: "str | list[Text | Image]"


class Image(msgspec.Struct, tag="image"):
    """A picture."""

    source: Base64 | Url | File


class Document(msgspec.Struct, tag="document"):
    """A document, PDF mostly."""

    source: Base64 | Url | File | Plain | Content
    title: str | None = None
    context: str | None = None


class SearchResult(msgspec.Struct, tag="search_result"):
    """Something found, to be cited."""

    content: list[Text]
    source: str = ""
    title: str = ""


class ToolUse(msgspec.Struct, tag="tool_use"):
    """A call of a tool."""

    id: str
    name: str
    input: dict[str, msgspec.Raw]


class ToolResult(msgspec.Struct, tag="tool_result"):
    """What a tool answered."""

    tool_use_id: str
    content: str | list[Text | Image | Document | SearchResult] | None = None


class Thinking(msgspec.Struct, tag="thinking"):
    """Thoughts before an answer."""

    thinking: str


class RedactedThinking(msgspec.Struct, tag="redacted_thinking"):
    """For Anthropic's own eyes."""


Block = Text | Image | Document | SearchResult | ToolUse | ToolResult | Thinking | RedactedThinking


class Message(msgspec.Struct):
    """One turn."""

    role: str
    content: str | list[Block]


class Tool(msgspec.Struct):
    """A tool on offer; ``type`` is absent or ``custom`` where the caller runs it."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.Raw(b"")
    strict: bool | None = None


class ToolChoice(msgspec.Struct):
    """Which tool must or may be called."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(msgspec.Struct):
    """About the request."""

    user_id: str | None = None


class Format(msgspec.Struct):
    """The format of the answer."""

    type: str
    schema: msgspec.Raw = msgspec.Raw(b"")


class OutputConfig(msgspec.Struct):
    """How to answer."""

    effort: str | None = None
    format: Format | None = None


class Ask(msgspec.Struct):
    """The request."""

    messages: list[Message]
    max_tokens: int | None = None
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    stream: bool | None = None
