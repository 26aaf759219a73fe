"""TLS for the listener: the context, and the handshake of one connection."""

import ssl
from pathlib import Path

import trio

from trillm.errors import ConfigError
from trillm.wire.stream import RawStream

HTTP_2 = "h2"


def build_context(certfile: Path, keyfile: Path | None, password: str | None = None) -> ssl.SSLContext:
    """Return a context that shows the certificate and offers HTTP/2 and HTTP/1.1.

    Args:
        certfile: PEM, with the chain; the key too, if there is no ``keyfile``.
        keyfile: PEM.
        password: of the key, if it has one.

    Raises:
        ConfigError: a file cannot be read, they do not belong together, or the password is not the key's.
    """
    asked = False

    def key_password() -> str:
        # Called for a key that has one. Without it OpenSSL would ask at the terminal, and wait there.
        nonlocal asked
        asked = True
        return password or ""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile, key_password)
    except ssl.SSLError as exc:
        if asked:
            problem = "is not what --keyfile-password says" if password else "is needed: give --keyfile-password"
            raise ConfigError(str(keyfile or certfile), f"the key's password {problem}") from exc
        reason = (exc.reason or str(exc)).replace("_", " ").lower()
        raise ConfigError(str(certfile), f"is no PEM certificate with its key: {reason}") from exc
    except OSError as exc:
        raise ConfigError(str(keyfile or certfile), f"cannot be read: {exc.strerror}") from exc
    context.set_alpn_protocols([HTTP_2, "http/1.1"])
    return context


async def secured(raw: RawStream, context: ssl.SSLContext, *, within_s: float) -> "trio.SSLStream[RawStream] | None":
    """Shake hands; return the stream under TLS, or None if the client does not manage it within ``within_s``."""
    stream = trio.SSLStream(raw, context, server_side=True, https_compatible=True)
    with trio.move_on_after(within_s):
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            return None
        return stream
    return None


def speaks_http_2(stream: trio.abc.Stream) -> bool:
    """Tell whether the handshake agreed on HTTP/2."""
    return isinstance(stream, trio.SSLStream) and stream.selected_alpn_protocol() == HTTP_2
