"""The content of a Responses item as a chat message's content."""

from typing import Any

from trillm.dialects.reading import unsupported
from trillm.dialects.responses.shapes import (
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    OutputText,
    Part,
    PlainText,
    Refusal,
)

Content = str | list[dict[str, Any]]


def parts_of(content: str | list[Part], place: str) -> Content:
    """Return content as a chat has it: words alone as a string.

    Raises:
        BadRequest: a part of it cannot be sent; ``place`` is where the content stands.
    """
    if isinstance(content, str):
        return content
    parts = [_part(part, f"{place}[{at}]") for at, part in enumerate(content)]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def words_of(content: str | list[Part]) -> str:
    """Return the words of an assistant's content; all it ever has are words."""
    return content if isinstance(content, str) else "\n".join(_words(part) for part in content)


def result_of(output: str | list[Part] | None, place: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a tool's result as text, and what of it can only be shown: a chat's tool messages hold text alone."""
    if not isinstance(output, list):
        return output or "", []
    parts = [_part(part, f"{place}[{at}]") for at, part in enumerate(output)]
    shown = [part for part in parts if part["type"] != "text"]
    return "\n".join(part["text"] for part in parts if part["type"] == "text"), shown


def _words(part: Part) -> str:
    match part:
        case InputText(text) | OutputText(text) | PlainText(text) | Refusal(text):
            return text
    return ""


def _part(part: Part, place: str) -> dict[str, Any]:
    match part:
        case InputImage(str() as url, _, detail):
            image = {"url": url} if detail is None else {"url": url, "detail": detail}
            return {"type": "image_url", "image_url": image}
        case InputFile(str() as data, _, _, filename):
            return {"type": "file", "file": {"file_data": data, "filename": filename or "document"}}
        case InputAudio(audio):
            return {"type": "input_audio", "input_audio": audio}
        case InputImage() | InputFile():
            raise unsupported(place, "no server of this model keeps or fetches files; send their content")
    return {"type": "text", "text": _words(part)}
