"""Images by their address, fetched for servers that only take the image itself. Off unless the operator asks for it.

Looked for wherever a request may have one: chat completions' ``image_url``, Responses' ``input_image``, Messages'
``source`` of type ``url``. What is no image by its first bytes is refused, whatever its sender says.
"""

import base64
from collections.abc import Iterable
from typing import Any

import msgspec
import trio
from attrs import evolve, frozen

from trillm.errors import BadRequest
from trillm.gateway.call import Call
from trillm.pool.catalog import Entry
from trillm.wire.control import NOT_JSON
from trillm.wire.fetch import Fetcher, Refused

MAX_IMAGES = 16
_AT_ONCE = 4

_KINDS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


@frozen
class Images:
    """Puts images in the place of their addresses.

    Args:
        fetcher: gets them.
    """

    fetcher: Fetcher

    async def inlined(self, call: Call, entry: Entry) -> Call:
        """Return ``call`` with the images it points to, if a server of ``entry`` needs that.

        Raises:
            BadRequest: one of them is not public, is no image, too large, or cannot be had.
        """
        needed = any(candidate.member.backend.needs_inlined_images for candidate in entry.plan.candidates)
        if not needed or b"image" not in call.body or b"http" not in call.body:
            return call
        try:
            body = msgspec.json.decode(call.body)
        except NOT_JSON:
            return call  # for others to refuse
        places = list(_places(body))
        if not places:
            return call
        await self._fill(places)
        return evolve(call, body=msgspec.json.encode(body))

    async def _fill(self, places: "list[_Place]") -> None:
        if len(places) > MAX_IMAGES:
            raise BadRequest(f"At most {MAX_IMAGES} images can be fetched for one request, not {len(places)}.")
        at_once = trio.CapacityLimiter(_AT_ONCE)
        refused: list[BadRequest] = []

        async def fill(place: _Place) -> None:
            async with at_once:
                try:
                    place.put(*await self._image(place.url))
                except Refused as exc:
                    refused.append(BadRequest(f"The image at {place.url[:200]!r} cannot be used: {exc}."))
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(fill, place)
        if refused:
            raise refused[0]

    async def _image(self, url: str) -> tuple[str, str]:
        answer = await self.fetcher.fetch(url)
        said = answer.header(b"content-type").partition(b";")[0].strip().lower()
        if not said.startswith(b"image/") and said not in {b"", b"application/octet-stream", b"binary/octet-stream"}:
            raise Refused(f"it is {said[:50].decode('latin-1')!r} and no image")
        kind = _kind(answer.body)
        if kind is None:
            raise Refused("it is no PNG, JPEG, GIF or WebP")
        return kind, base64.b64encode(answer.body).decode()


def _kind(body: bytes) -> str | None:
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _KINDS.items() if body.startswith(magic)), None)


@frozen
class _Place:
    """Where in a request an image's address stands.

    Args:
        url: it.
        holder: what holds it.
        member: under this name; None: as Anthropic's source, which changes its type with it.
    """

    url: str
    holder: dict[str, Any]
    member: str | None

    def put(self, kind: str, data: str) -> None:
        """Put the image there."""
        if self.member is None:
            self.holder.clear()
            self.holder.update(type="base64", media_type=kind, data=data)
        else:
            self.holder[self.member] = f"data:{kind};base64,{data}"


def _places(value: Any) -> Iterable[_Place]:
    if isinstance(value, list):
        for each in value:
            yield from _places(each)
    elif isinstance(value, dict):
        place = _place(value)
        if place is not None:
            yield place
        else:
            yield from _places([value[name] for name in ("messages", "input", "content", "output") if name in value])


def _place(part: dict[str, Any]) -> _Place | None:
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)} as holder}:
            place = _Place(url, holder, "url")
        case {"type": "image_url" | "input_image", "image_url": str(url)}:
            place = _Place(url, part, "image_url")
        case {"type": "image", "source": {"type": "url", "url": str(url)} as holder}:
            place = _Place(url, holder, None)
        case _:
            return None
    return place if url.lower().startswith(("http://", "https://")) else None
