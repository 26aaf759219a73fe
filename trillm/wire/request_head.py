"""What a request's head says: method, target, headers, how its body comes (RFC 9112). Pure functions.

Only heads that llhttp found valid come here. What it lets pass and a server in front of others must not is
refused: other protocols' request lines, unusual codings, a missing or doubled Host, two different hosts.
"""

import re
from functools import lru_cache

from attrs import define, field

from trillm.errors import BadRequest

_USUAL_BYTES = 4096
# A target has no control bytes: at a bare LF in it llhttp ends a line of HTTP/0.9 and reads headers from there.
_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~\x80-\xff]+) HTTP/(1\.[01])")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)
_HOST = re.compile(rb"[\w.~!$&'()*+;=%:\[\]-]*", re.ASCII)


@define(eq=False)
class RequestHead:
    """A request line and its headers. Not frozen, for it is made with every request; nobody changes it all the same.

    Args:
        method: as sent, e.g. ``b"POST"``.
        target: path and query, not decoded. Of an absolute-form target only these are kept: its authority is
            refused unless it is the Host header's, so that a check of Host is a check of both.
        version: ``b"1.0"`` or ``b"1.1"``.
        headers: names in lower case, values without surrounding blanks, in the order they came.
        body_bytes: how long the body is; None when it comes in chunks.
        keep_alive: whether the client may send another request on this connection.
        expects_continue: whether it waits for ``100 Continue`` before it sends the body.
        upgrade: whether it asks to switch protocols.
        raw: the head as it came, for whoever takes the connection over.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body_bytes: int | None
    keep_alive: bool
    expects_continue: bool
    upgrade: bool
    raw: bytes = field(repr=False)

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a header (``name`` in lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


def build_head(raw: bytes, *, upgrade: bool) -> RequestHead:
    """Take a head apart.

    Doing this here is three times as fast as collecting a callback per header.

    Args:
        raw: a valid head with its empty line: every line ends in CRLF and none is folded.
        upgrade: whether llhttp found that it asks to switch protocols.

    Raises:
        BadRequest: two servers could read it differently, or it is none of HTTP/1.x.
    """
    first, *lines = raw[:-4].split(b"\r\n")
    method, target, version = _request_line(first)
    headers = list(map(_remembered if len(raw) <= _USUAL_BYTES else _header, lines))
    named = dict(headers)
    if len(named) < len(headers):
        named = _combined(headers)
    body_bytes = _body_bytes(named, version)
    if upgrade and body_bytes is None:
        raise BadRequest("A request that asks to switch protocols must not have a body in chunks.")
    connection = named.get(b"connection", b"").lower()
    keep_alive = b"close" not in connection and (version == b"1.1" or b"keep-alive" in connection)
    expects_continue = version == b"1.1" and named.get(b"expect", b"").lower() == b"100-continue"
    target = _origin_form(target, _host(named, version))
    return RequestHead(method, target, version, headers, body_bytes, keep_alive, expects_continue, upgrade, raw)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


# What a client says of itself it says with every request. Not of large heads, or remembering could fill the memory.
_remembered = lru_cache(maxsize=1024)(_header)


def _combined(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Join the values of headers that come more than once (RFC 9110 §5.3)."""
    named: dict[bytes, bytes] = {}
    for name, value in headers:
        named[name] = named[name] + b", " + value if name in named else value
    return named


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequest("The request line is not of the form 'METHOD target HTTP/1.1'.")
    method, target, version = match.groups()
    return method, target, version


def _host(named: dict[bytes, bytes], version: bytes) -> bytes:
    """Return the Host. HTTP/1.1 wants exactly one (§3.2); two were joined by a comma, which none contains."""
    host = named.get(b"host")
    if host is None:
        if version == b"1.1":
            raise BadRequest("The Host header is missing.")
        return b""
    if _HOST.fullmatch(host) is None:
        raise BadRequest("The Host header is not one host name.")
    return host


def _origin_form(target: bytes, host: bytes) -> bytes:
    """Return path and query of a target (§3.2); ``*`` stays."""
    if target.startswith(b"/") or target == b"*":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequest("The request target is neither a path nor an http(s) URL.")
    if match[1].lower() != host.lower():
        raise BadRequest("The request target names another host than the Host header.")
    return match[2] if match[2].startswith(b"/") else b"/" + match[2]


def _body_bytes(named: dict[bytes, bytes], version: bytes) -> int | None:
    """Return the body's length, None for chunks. llhttp has checked that it has one of them at most."""
    coding = named.get(b"transfer-encoding")
    if coding is None:
        return int(named.get(b"content-length", b"0"))
    if version == b"1.0" or coding.lower() != b"chunked":
        raise BadRequest("The only transfer coding understood is 'chunked', in HTTP/1.1.")
    return None
