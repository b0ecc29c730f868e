"""Requests come in here first: who may not speak to the panel is turned away before all else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from http import HTTPStatus
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = Path(__file__).parent / "page"

_BODY_BYTES = 16 * 1024
_TOO_LONG = f"the request is too long; expected at most {_BODY_BYTES} bytes"
_DENIED_PAGE = (PAGE / "denied.html").read_text(encoding="utf-8")


class Guard:
    """Lets a request through only with our host, origin and token, and marks every answer.

    The token is the first part of the path, so that every file and call of the page, whose
    addresses are relative to it, carries it without a cookie. What passes sees ``root_path``
    instead. A page of another site fails by its origin, one that had its own name resolve to
    this machine by its host, and another user of this machine by the token.

    Args:
        app: what is guarded.
        port: where the server listens.
        token: as in the panel's address.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        suffix = "" if port == 80 else f":{port}"  # browsers leave the default port out
        self._hosts = frozenset(f"{name}{suffix}" for name in ("127.0.0.1", "localhost", "[::1]"))
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, WebSocket or the server's own start and end."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        host = _header(scope, b"host")
        refusal = self._refusal(scope, host)
        if refusal:
            await _refuse(scope, send, refusal)
            return
        own = [f"{kind} 'self'" for kind in ("style-src", "script-src", "img-src")]
        # Not every browser takes 'self' for the WebSocket too.
        send = _marked(send, _policy(*own, f"connect-src 'self' ws://{host}"))
        if scope["path"] == f"/{self._token}" and scope["type"] == "http":
            location = f"/{self._token}/".encode("ascii")
            await _answer(send, HTTPStatus.TEMPORARY_REDIRECT, b"", (b"location", location))
            return
        if scope["type"] == "http":
            body = await _body(receive)
            if len(body) > _BODY_BYTES:
                await _answer_json(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LONG)
                return
            receive = _replayed(body, receive)
        await self._app({**scope, "root_path": f"/{self._token}"}, receive, send)

    def _refusal(self, scope: Scope, host: str) -> str:
        """Why this request is turned away; empty if it is not."""
        if host not in self._hosts:
            return "the panel answers only under its own address, as the terminal shows it"
        given = scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            return "this address has no valid token; open the address that the terminal shows"
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not reads and _header(scope, b"origin") != f"http://{host}":
            return f"changes are taken only from the panel's own page (Origin: http://{host})"
        return ""


def _header(scope: Scope, name: bytes) -> str:
    """The header's value; empty if it is missing or there is more than one."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return values[0].decode("latin-1").lower() if len(values) == 1 else ""


def _policy(*allowed: str) -> bytes:
    nothing = ("default-src", "base-uri", "form-action", "frame-ancestors")
    return "; ".join([*(f"{name} 'none'" for name in nothing), *allowed]).encode("ascii")


def _marked(send: Send, csp: bytes) -> Send:
    """``send`` with the headers that every answer has."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                (b"content-security-policy", csp),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"x-frame-options", b"DENY"),
                (b"referrer-policy", b"no-referrer"),  # the address holds the token
                (b"cross-origin-resource-policy", b"same-origin"),
                (b"cross-origin-opener-policy", b"same-origin"),
            ]
            names = {name for name, _ in headers}
            kept = [item for item in message.get("headers", []) if item[0] not in names]
            message = {**message, "headers": kept + headers}
        await send(message)

    return marked


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    """A browser that wants a page gets one, everything else a line of JSON."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    if "text/html" not in _header(scope, b"accept"):
        await _answer_json(_marked(send, _policy()), HTTPStatus.FORBIDDEN, reason)
        return
    page = _DENIED_PAGE.replace("{reason}", reason[0].upper() + reason[1:]).encode()
    kind = (b"content-type", b"text/html; charset=utf-8")
    csp = _policy(f"style-src '{_style_hash()}'")
    await _answer(_marked(send, csp), HTTPStatus.FORBIDDEN, page, kind)


def _style_hash() -> str:
    """What allows the one style sheet that cannot be a file: files need the token."""
    style = re.search("<style>(.*)</style>", _DENIED_PAGE, re.DOTALL)
    assert style is not None
    digest = hashlib.sha256(style[1].encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


async def _body(receive: Receive) -> bytes:
    """The request's body; of one that is too long only as much as tells so."""
    body = b""
    while len(body) <= _BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` with the body, which was taken from it, in front."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def _answer_json(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    await _answer(send, status, body, (b"content-type", b"application/json"))


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode("ascii"))
    await send(
        {"type": "http.response.start", "status": int(status), "headers": [*headers, length]}
    )
    await send({"type": "http.response.body", "body": body})
