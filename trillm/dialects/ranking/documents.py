"""What there is to read in a document or a query, in whichever form it comes.

A string; ``{"text"}`` (Cohere, Jina); fields named by ``rank_fields`` (Cohere); ``{"content": [parts]}`` (vLLM);
``{"image"}`` (Jina). Media are never unpacked: what has any stays one raw object, in vLLM's form.
"""

from collections.abc import Sequence

import msgspec

from trillm.dialects.members import Members, read
from trillm.dialects.ranking.values import Content, Document
from trillm.errors import BadRequest


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


_text = msgspec.json.Decoder(str)
_content = msgspec.json.Decoder(str | list[_Part])


def content_of(place: str, document: Document, rank_fields: Sequence[str] = ()) -> Content:
    """Return what is to be ranked of ``document``.

    Args:
        place: where it stands, e.g. ``documents[3]``.
        document: as it came.
        rank_fields: which of an object's members count; none for the usual ones.

    Raises:
        BadRequest: there is nothing to rank in it.
    """
    if isinstance(document, str):
        return document
    if rank_fields:
        return _joined(place, document, rank_fields)
    if "text" in document:
        return read(document["text"], f"{place}.text", _text, "a string")
    if "content" in document:
        return _from_parts(place, document["content"])
    if "image" in document:
        url = read(document["image"], f"{place}.image", _text, "a string, the image's URL or data")
        return _media([{"type": "image_url", "image_url": {"url": url}}])
    raise BadRequest(f"'{place}' has no 'text'; give it one, or name its members in 'rank_fields'.", param=place)


def _joined(place: str, document: Members, rank_fields: Sequence[str]) -> str:
    """Return the named members, one ``name: value`` a line, which is how Cohere's own clients write YAML."""
    found = [name for name in rank_fields if name in document]
    if not found:
        raise BadRequest(f"'{place}' has none of the members in 'rank_fields'.", param=place)
    return "\n".join(f"{name}: {_shown(document[name])}" for name in found)


def _shown(raw: msgspec.Raw) -> str:
    value = bytes(raw)
    return _text.decode(value) if value.startswith(b'"') else value.decode()


def _from_parts(place: str, raw: msgspec.Raw) -> Content:
    parts = read(raw, f"{place}.content", _content, "a string or an array of parts")
    if isinstance(parts, str):
        return parts
    if not parts:
        raise BadRequest(f"'{place}.content' must have at least one part.", param=f"{place}.content")
    if all(part.type == "text" for part in parts):
        return "\n".join(part.text for part in parts)
    return _media(raw)


def _media(parts: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"content": parts}))
