"""Every HTTP route, as a Quart-Trio application: bytes in, bytes out, no policy.

Started by :mod:`trillm.api.server`. What a request means is decided in :mod:`trillm.gateway`; here it only gets its
route, its access check, and its error envelope.
"""

import logging
from functools import partial
from typing import Any

import msgspec
from attrs import frozen
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge, RequestTimeout

from trillm import errors
from trillm.api import sums
from trillm.api.mount import address_of
from trillm.api.page import render_page
from trillm.api.reply import Answer, Connection
from trillm.dialects.dialect import dialect_of
from trillm.gateway import status
from trillm.gateway.access import Access, Caller
from trillm.gateway.call import read_call, request_id
from trillm.gateway.cors import Cors
from trillm.gateway.envelopes import envelope_of, id_headers
from trillm.gateway.gateway import Gateway
from trillm.gateway.paths import PATHS, asked_at
from trillm.gateway.proxies import Peer
from trillm.gateway.reply import Headers
from trillm.metrics import CONTENT_TYPE
from trillm.models import Operation
from trillm.registry.registry import Registry
from trillm.workers import totals

log = logging.getLogger(__name__)


@frozen
class Site:
    """What the routes need.

    Args:
        gateway: answers calls.
        registry: what is configured, and what is wrong with it.
        access: who may call.
        gather: asks the other processes, if there are some.
        max_body_bytes: a larger request body is refused with 413.
        body_s: seconds a client may take to send its body.
    """

    gateway: Gateway
    registry: Registry
    access: Access
    gather: sums.Gather | None = None
    max_body_bytes: int = 64 * 1024 * 1024
    body_s: float = 60.0


def build_app(site: Site) -> QuartTrio:
    """Build the application; does no I/O."""
    app = QuartTrio("trillm", static_folder=None)
    app.asgi_http_class = Connection
    app.config.update(MAX_CONTENT_LENGTH=site.max_body_bytes, BODY_TIMEOUT=site.body_s, RESPONSE_TIMEOUT=None)
    for path, operation in PATHS.items():
        view = partial(_call, site, operation)
        app.add_url_rule(path, endpoint=path, view_func=view, methods=["POST"], provide_automatic_options=False)
    _add_models(app, site)
    _add_operator_routes(app, site)
    _add_errors(app)

    _add_cors(app, site.access.cors)

    @app.after_request
    async def with_id(response: Response) -> Response:
        response.headers.setdefault("x-request-id", request_id(dict(wire_headers()).get(b"x-request-id")))
        return response

    return app


async def _call(site: Site, operation: Operation) -> Answer | Response:
    headers = wire_headers()
    body = b""
    try:
        caller = site.access.admit(headers, _peer(site))
        body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
        call = read_call(operation, headers, body, caller=caller.key, grants=caller.grants, client=caller.client)
    except errors.TrillmError as error:
        return _error(error, body)
    return Answer(partial(site.gateway.handle, call))


def wire_headers() -> Headers:
    """Return the request's headers as they came, names in lower case."""
    return [(name.lower(), value) for name, value in request.scope["headers"]]


def _peer(site: Site) -> Peer:
    return site.access.proxies.peer(address_of(request.scope))


def _admit(site: Site) -> Caller:
    return site.access.admit(wire_headers(), _peer(site))


def _add_models(app: QuartTrio, site: Site) -> None:
    @app.get("/v1/models")
    @app.get("/models")
    async def list_models() -> Response:
        return _json(status.model_list(site.gateway.pool, _admit(site).grants))

    @app.get("/v1/models/<path:name>")
    @app.get("/models/<path:name>")
    async def get_model(name: str) -> Response:
        return _json(status.model(site.gateway.pool, name, _admit(site).grants))


def _add_operator_routes(app: QuartTrio, site: Site) -> None:
    @app.get("/")
    async def page() -> Response:
        shown = not site.registry.snapshot.keyring or _is_operator(site)
        base = site.access.base_url(wire_headers(), _peer(site), request.host_url)
        return Response(render_page(site.gateway.pool, base, shown=shown), content_type="text/html")

    @app.get("/.well-known/oauth-protected-resource")
    @app.get("/.well-known/oauth-protected-resource/<path:_resource>")
    async def protected_resource(_resource: str = "") -> Response:
        if site.access.issuer is None:
            raise errors.NotFound("No authorization server is configured; callers show keys, if anything.")
        return _json(site.access.issuer.metadata)

    @app.get("/favicon.ico")
    async def no_icon() -> Response:
        return Response(b"", status=204)

    @app.get("/health")
    @app.get("/health/live")
    async def live() -> Response:
        return _json({"status": "ok"})

    @app.get("/health/ready")
    async def ready() -> Response:
        state = status.readiness(site.gateway, site.registry, detailed=_is_operator(site))
        return _json(state, http_status=200 if state["ready"] else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        _admit(site)
        return Response(await _metrics(site), content_type=CONTENT_TYPE)

    @app.get("/trillm/status")
    async def full_status() -> Response:
        if not _admit(site).is_operator:
            raise errors.Forbidden("Only the command line of the account that runs trillm may see this.")
        return _json(await _status(site))


async def _metrics(site: Site) -> bytes:
    metrics = site.gateway.metrics
    if site.gather is None:
        return metrics.exposition()
    return totals.exposition(await site.gather(totals.METRICS, totals.part(metrics.registry)))


async def _status(site: Site) -> dict[str, Any]:
    if site.gather is None:
        return status.full(site.gateway, site.registry)
    return sums.summed(await site.gather(sums.STATUS, sums.part(site.gateway, site.registry)))


def _is_operator(site: Site) -> bool:
    try:
        return _admit(site).is_operator
    except errors.BadRequest:
        return False


def _add_cors(app: QuartTrio, cors: Cors) -> None:
    if not cors.origins:
        return

    @app.before_request
    async def preflight() -> Response | None:
        known = dict(wire_headers())
        if request.method != "OPTIONS" or b"access-control-request-method" not in known:
            return None
        said = cors.preflight(known.get(b"origin"), known.get(b"access-control-request-headers"))
        return Response(b"", status=204, headers=_text(said))

    @app.after_request
    async def with_cors(response: Response) -> Response:
        if request.method != "OPTIONS":
            response.headers.update(_text(cors.headers(dict(wire_headers()).get(b"origin"))))
        return response


def _text(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in headers}


def _add_errors(app: QuartTrio) -> None:
    @app.errorhandler(errors.TrillmError)
    async def ours(error: errors.TrillmError) -> Response:
        return _error(error)

    @app.errorhandler(HTTPException)
    async def frameworks(error: HTTPException) -> Response:
        return _error(_translated(error))

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        log.error("request broken path=%s", request.path, exc_info=error)
        return _error(errors.TrillmError("trillm failed; its log says why."))


def _translated(error: HTTPException) -> errors.TrillmError:
    """Say in our words what the framework refused."""
    match error:
        case NotFound():
            return errors.NotFound(f"Unknown path {request.path!r}. See / for what is served.")
        case MethodNotAllowed():
            allowed = ", ".join(sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}))
            return errors.MethodNotAllowed(f"{request.method} is not allowed on {request.path!r}; use {allowed}.")
        case RequestEntityTooLarge():
            limit = request.max_content_length or 0
            return errors.TooLarge(f"The body is larger than {limit} bytes.")
        case RequestTimeout():
            return errors.RequestTimeout("The request body did not arrive in time.")
    return errors.BadRequest(error.description or error.name)


def _error(error: errors.TrillmError, body: bytes = b"") -> Response:
    operation = asked_at(request.path.encode())
    given = request_id(dict(wire_headers()).get(b"x-request-id"))
    response = _json(envelope_of(error, given, operation, body), http_status=error.status)
    for name, value in [*id_headers(given, dialect_of(operation)), *error.headers()]:
        response.headers[name.decode()] = value.decode()
    if isinstance(error, errors.TooLarge | errors.RequestTimeout):
        # What is left of the body is not worth reading.
        response.headers["connection"] = "close"
    return response


def _json(value: Any, *, http_status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status=http_status, content_type="application/json")
