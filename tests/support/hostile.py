"""Requests made to confuse two servers in a row, to exhaust one, or to crash it, each with the verdict on it.

One table, replayed against every face. Sources: RFC 9112 (request smuggling: §11.2, and each rule that a server must
keep so that no two read a message differently), and what such servers were found to get wrong.
"""

import json
from collections.abc import Iterator

from attrs import frozen

from support.running import chat

BODY = json.dumps(chat()).encode()
PATH = b"/v1/chat/completions"


def head(*lines: bytes, method: bytes = b"POST", target: bytes = PATH, host: bytes = b"Host: 127.0.0.1") -> bytes:
    """A head with these lines before its empty one."""
    usual = [line for line in (host, b"Content-Type: application/json") if line]
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *usual, *lines]) + b"\r\n\r\n"


LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"
AS_CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
AS_CHUNKS = AS_CHUNK + b"0\r\n\r\n"
PLAIN = head(LENGTH) + BODY
LAST = head(LENGTH, CLOSE) + BODY
#: What a smuggler hides behind a request.
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@frozen
class Case:
    """One request, or several on one connection.

    Args:
        name: what is wrong with it, or odd about it.
        raw: the bytes.
        statuses: of the answers, in order, after which the connection is closed.
        forwarded: how many calls the server behind gets.
    """

    name: str
    raw: bytes
    statuses: tuple[int, ...] = (400,)
    forwarded: int = 0


def _lengths() -> Iterator[Case]:
    """Where a body ends."""
    yield Case("length and chunks", head(LENGTH, CHUNKED) + AS_CHUNKS)
    yield Case("chunks and length", head(CHUNKED, LENGTH) + AS_CHUNKS)
    yield Case("chunks and a length of nothing", head(CHUNKED, b"Content-Length: 0") + AS_CHUNKS)
    yield Case("two lengths", head(LENGTH, b"Content-Length: 5") + BODY)
    yield Case("the same length twice", head(LENGTH, LENGTH) + BODY)
    yield Case("a list of lengths", head(LENGTH + b", %d" % len(BODY)) + BODY)
    for name, value in {
        "a signed length": b"+%d" % len(BODY),
        "a negative length": b"-1",
        "a length of minus nothing": b"-0",
        "a length that is no number": b"1e3",
        "a hexadecimal length": b"0x10",
        "a length with a point": b"10.0",
        "a length with a blank in it": b"1 0",
        "a length with an underscore": b"1_0",
        "a length in other digits": "\uff11\uff10".encode(),
        "no length after the colon": b"",
        "a length beyond 64 bits": b"18446744073709551617",
        "a length of a hundred digits": b"9" * 100,
    }.items():
        yield Case(name, head(b"Content-Length: " + value) + BODY)
    yield Case("a length beyond the limit", head(b"Content-Length: 9000000000"), (413,))
    yield Case("a length with zeros before it", head(b"Content-Length: 000%d" % len(BODY), CLOSE) + BODY, (200,), 1)
    yield Case("a length in mixed case", head(b"cOnTeNt-LeNgTh:%d" % len(BODY), CLOSE) + BODY, (200,), 1)
    yield Case("a length with a tab before it", head(b"Content-Length:\t%d \t" % len(BODY), CLOSE) + BODY, (200,), 1)


def _codings() -> Iterator[Case]:
    """Which transfer coding."""
    for name, value in {
        "an unknown coding": b"gzip",
        "no coding": b"identity",
        "nothing as a coding": b"",
        "chunked twice": b"chunked, chunked",
        "chunked, then another": b"chunked, gzip",
        "another, then chunked": b"gzip, chunked",
        "identity, then chunked": b"identity, chunked",
        "chunked, then identity": b"chunked, identity",
        "almost chunked": b"xchunked",
        "chunked and more": b"chunked2",
        "chunked in quotes": b'"chunked"',
        "chunked with a parameter": b"chunked;q=1",
        "chunked after a control character": b"\x0bchunked",
        "chunked before a control character": b"chunked\x0c",
        "chunked after a comma": b", chunked",
    }.items():
        yield Case(name, head(b"Transfer-Encoding: " + value) + AS_CHUNKS)
    yield Case("two codings in two lines", head(b"Transfer-Encoding: gzip", CHUNKED) + AS_CHUNKS)
    yield Case("chunks in HTTP/1.0", head(CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0") + AS_CHUNKS)
    yield Case("chunked in mixed case", head(b"transfer-ENCODING: ChunkeD", CLOSE) + AS_CHUNKS, (200,), 1)


def _chunks() -> Iterator[Case]:
    """How chunks are written."""
    size = b"%x" % len(BODY)
    for name, chunks in {
        "a chunk size that is no number": b"zz\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a negative chunk size": b"-1\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a signed chunk size": b"+" + AS_CHUNKS,
        "a chunk size with 0x": b"0x" + AS_CHUNKS,
        "a chunk size after a blank": b" " + AS_CHUNKS,
        "no chunk size": b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a chunk size beyond 64 bits": b"10000000000000001\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a chunk longer than said": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a chunk shorter than said": b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) + 1, BODY),
        "a bare line feed after a chunk size": size + b"\n" + BODY + b"\r\n0\r\n\r\n",
        "a bare carriage return after a chunk size": size + b"\r" + BODY + b"\r\n0\r\n\r\n",
        "a bare line feed after a chunk": size + b"\r\n" + BODY + b"\n0\r\n\r\n",
        "a bare line feed after the last chunk": AS_CHUNK + b"0\n\r\n",
        "a line feed in a chunk extension": size + b";a\n=b\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a null byte in a chunk extension": size + b";\0\r\n" + BODY + b"\r\n0\r\n\r\n",
        "a trailer with a blank before its colon": AS_CHUNK + b"0\r\nX : y\r\n\r\n",
        "a folded trailer": AS_CHUNK + b"0\r\nX: y\r\n z\r\n\r\n",
        "a line of a trailer without a colon": AS_CHUNK + b"0\r\nabc\r\n\r\n",
    }.items():
        yield Case(name, head(CHUNKED) + chunks)
    for name, chunks in {
        "chunks of one byte": b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
        "a chunk extension": size + b";a=b\r\n" + BODY + b"\r\n0\r\n\r\n",
        "zeros before a chunk size": b"0000" + AS_CHUNKS,
        "a last chunk of many zeros": AS_CHUNK + b"000\r\n\r\n",
        "a chunk size in capitals": AS_CHUNKS.replace(size, size.upper(), 1),
        "a trailer": AS_CHUNK + b"0\r\nX-Sum: 1\r\n\r\n",
    }.items():
        yield Case(name, head(CHUNKED, CLOSE) + chunks, (200,), 1)


def _lines() -> Iterator[Case]:
    """How a head is written."""
    for name, line in {
        "a folded header": b"X-A: 1\r\n  2",
        "a header folded with a tab": b"X-A: 1\r\n\t2",
        "a blank before the colon": b"X-A : 1",
        "a tab before the colon": b"X-A\t: 1",
        "a blank before the colon of the length": b"Content-Length : 3",
        "a bare carriage return": b"X-A: 1\r2",
        "a bare line feed": b"X-A: 1\nX-B: 2",
        "a null byte in a value": b"X-A: a\0b",
        "a null byte in a name": b"X\0A: b",
        "a bell in a value": b"X-A: \x07",
        "a delete in a value": b"X-A: \x7f",
        "no colon": b"X-A",
        "no name": b": 1",
        "a blank in a name": b"X A: 1",
        "a name in other letters": "Ünicode: 1".encode(),
        "a slash in a name": b"X/A: 1",
    }.items():
        yield Case(name, head(line, LENGTH) + BODY)
    yield Case("a folded first line", head(LENGTH, host=b" Host: 127.0.0.1") + BODY)
    yield Case("nothing but bare line feeds", head(LENGTH).replace(b"\r\n", b"\n") + BODY)
    yield Case("bare line feeds at the head's end", head(LENGTH).replace(b"\r\n\r\n", b"\n\n") + BODY)
    yield Case("a null byte before the request", b"\0" + PLAIN)
    yield Case("a blank before the request", b" " + PLAIN)
    yield Case("bytes of no text in a value", head(b"X-A: \xff\xfe", LENGTH, CLOSE) + BODY, (200,), 1)
    yield Case("empty lines before the request", b"\r\n\r\n" + LAST, (200,), 1)
    yield Case("a head without end", head()[:-2] + b"X-A: " + b"a" * 70_000, (413,))
    yield Case("a thousand headers", head()[:-2] + b"X-A: " + (b"a" * 60 + b"\r\nX-A: ") * 1100, (413,))


def _request_lines() -> Iterator[Case]:
    """What is asked of whom."""
    for name, raw in {
        "no host": head(LENGTH, host=b""),
        "two hosts": head(b"Host: evil.example", LENGTH),
        "the same host twice": head(b"Host: 127.0.0.1", LENGTH),
        "a list of hosts": head(LENGTH, host=b"Host: 127.0.0.1, evil.example"),
        "a host with a path": head(LENGTH, host=b"Host: 127.0.0.1/v1"),
        "a host with a user": head(LENGTH, host=b"Host: me@127.0.0.1"),
        "another host in the target": head(LENGTH, target=b"http://evil.example" + PATH),
        "a user in the target": head(LENGTH, target=b"http://me@127.0.0.1" + PATH),
        "another scheme in the target": head(LENGTH, target=b"ftp://127.0.0.1" + PATH),
        "a null byte in the target": head(LENGTH, target=b"/v1/ch\0at"),
        "a blank in the target": head(LENGTH, target=b"/v1/chat completions"),
        "a tab in the target": head(LENGTH, target=b"/v1/chat\tcompletions"),
        "a target that is no path": head(LENGTH, target=b"v1/chat/completions"),
        "two blanks after the method": head(LENGTH, method=b"POST "),
        "a method with a blank in it": head(LENGTH, method=b"PO ST"),
        "an unknown method": head(LENGTH, method=b"GPOST"),
        "a lower-case method": head(LENGTH, method=b"post"),
        "a proxy's method": head(method=b"CONNECT", target=b"evil.example:443"),
        "HTTP/0.9": b"GET /\r\n\r\n",
        "an unknown version": head(LENGTH).replace(b"HTTP/1.1", b"HTTP/7.3"),
        "a version without a point": head(LENGTH).replace(b"HTTP/1.1", b"HTTP/11"),
        "a version in lower case": head(LENGTH).replace(b"HTTP/1.1", b"http/1.1"),
        "HTTP/2's preface in the clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "another protocol's request": b"DESCRIBE / RTSP/1.0\r\nHost: a\r\n\r\n",
        "TLS inside": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        "no request at all": b"\xff\xfe\xfd" * 50 + b"\r\n\r\n",
    }.items():
        yield Case(name, raw + (BODY if raw.endswith(LENGTH + b"\r\n\r\n") else b""))
    yield Case("a foreign host", head(LENGTH, CLOSE, host=b"Host: evil.example") + BODY, (403,))
    own = head(LENGTH, CLOSE, target=b"http://127.0.0.1" + PATH)
    yield Case("the own host in the target", own + BODY, (200,), 1)
    for target in (
        b"/v1/chat/completions/",
        b"/v1/x/../chat/completions",
        b"/v1/chat/completions;a",
    ):
        yield Case(f"another path: {target.decode()}", head(LENGTH, CLOSE, target=target) + BODY, (404,))
    yield Case("two slashes before the path", head(LENGTH, CLOSE, target=b"/" + PATH) + BODY, (200,), 1)
    yield Case("a query", head(LENGTH, CLOSE, target=PATH + b"?a=/../b") + BODY, (200,), 1)


def _sequences() -> Iterator[Case]:
    """What one connection carries one after the other."""
    yield Case("three in one piece", PLAIN + PLAIN + LAST, (200, 200, 200), 3)
    yield Case("chunks, then a length", head(CHUNKED) + AS_CHUNKS + LAST, (200, 200), 2)
    yield Case("one byte too many", PLAIN + b"G" + LAST, (200, 400), 1)
    yield Case(
        "a body longer than its length", head(b"Content-Length: %d" % (len(BODY) - 1)) + BODY + b"\r\n\r\n", (400, 400)
    )
    yield Case("chunks that hold a request", head(CHUNKED, CLOSE) + b"0\r\n\r\n" + PLAIN, (400,))
    yield Case("what follows close", LAST + PLAIN, (200,), 1)
    yield Case("refused, then a good one", head(LENGTH, CHUNKED) + AS_CHUNKS + LAST, (400,))
    yield Case("a good one, then length and chunks", PLAIN + head(LENGTH, CHUNKED) + AS_CHUNKS, (200, 400), 1)
    yield Case("an unknown path, then a good one", head(LENGTH, target=b"/nowhere") + BODY + LAST, (404, 200), 1)
    yield Case(
        "an upgrade, then a good one",
        head(LENGTH, b"Upgrade: h2c", b"Connection: Upgrade") + BODY + LAST,
        (200, 200),
        2,
    )
    yield Case("an upgrade with chunks", head(CHUNKED, b"Upgrade: h2c", b"Connection: Upgrade") + AS_CHUNKS)


def _bodies() -> Iterator[Case]:
    """What a body says."""
    for name, body in {
        "no JSON": b"{",
        "no object": b"null",
        "a list": b"[]",
        "text in another encoding": BODY.decode().encode("utf-16"),
        "no text": b'{"model":"\xff"}',
        "deeper than any parser goes": b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "a number of a million digits": b'{"model":"sim-chat","n":' + b"9" * 1_000_000 + b',"messages":5}',
        "nothing": b"",
    }.items():
        yield Case(f"a body: {name}", head(b"Content-Length: %d" % len(body), CLOSE) + body)


CASES = (*_lengths(), *_codings(), *_chunks(), *_lines(), *_request_lines(), *_sequences(), *_bodies())
