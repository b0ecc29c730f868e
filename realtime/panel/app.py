"""The panel's API: what a browser may ask of a live run.

Every address begins with the token, as in ``http://127.0.0.1:PORT/TOKEN/``; `guard` turns away
what has another token, host or origin. Answers are JSON; one that refuses is
``{"error": "one line"}``.

::

    GET  /               the page, and its files
    GET  /api/status     the status, see below
    POST /api/settings   some of {"enhance": true, "freeze": false, "governor": true,
                         "strength": 0..1, "scale": 1 | 2 | 4, "preset": "nano",
                         "max_faces": 0..64, "faces": {"ID": 0..1 | null}}; null: the common
                         strength again. Answers all settings as they are then
    POST /api/snapshot   {} saves the picture; answers {"file": "..."}
    POST /api/record     {"on": true | false}; answers {"recording": true, "file": "..."}
    WS   /ws             the browser sends ``status`` or ``picture`` when it is ready for one, and
                         gets one: a status (text) half a second after the one before, a picture
                         (binary, see `realtime.panel.pictures.pack`) as soon as it is newer than
                         the one before. Who does not ask gets nothing, so nothing ever queues

    status: {"settings": as above, "presets": [...],
             "stats": {"seconds", "fps", "rate", "captured_fps", "frames", "dropped",
                       "passthrough", "attention_hits", "attention_misses",
                       "stages": {NAME: {"p50", "p95", "p99"}} in ms},
             "faces": [{"id", "box": [left, top, width, height] of 1, "outcome"}],
             "governor": {"level", "what", "decisions": [{"time_s", "level", "reason", "what"}]},
             "recording": file name or null}
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as HttpError

from cagface_core import CagfaceError
from realtime import snapshot
from realtime.options import one_line
from realtime.panel.changes import Changes, RecordChange, SettingsChange
from realtime.panel.guard import PAGE
from realtime.panel.pictures import Pictures
from realtime.panel.status import Statuses, settings_of, status_of

if TYPE_CHECKING:
    from realtime.handles import Live

_log = logging.getLogger(__name__)

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_STATUS_S = 0.5
_MOST_WATCHERS = 32
_FILE_INTERVAL_S = 0.25
"""Snapshots and recordings are files: no more than four a second."""


def make_app(live: Live, folder: Path) -> FastAPI:
    """The application around one run, without its guard; files go into ``folder``."""
    pictures = Pictures(live.monitor)
    statuses, changes = Statuses(live), Changes(live.controls)
    next_file_s = 0.0
    watchers = 0

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await pictures.close()

    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _answer_errors_in_one_line(app)

    @app.get("/api/status")
    async def status() -> dict[str, Any]:
        return status_of(live)

    @app.post("/api/settings")
    async def change(wanted: SettingsChange) -> dict[str, Any]:
        if "preset" in wanted.model_fields_set and wanted.preset not in live.controls.presets:
            expected = ", ".join(live.controls.presets)
            raise HTTPException(422, f"unknown preset {wanted.preset!r}; expected {expected}")
        return settings_of(await changes.make(wanted))

    async def write_file(write: Callable[[], Path | None]) -> Path | None:
        nonlocal next_file_s
        if time.monotonic() < next_file_s:
            raise HTTPException(429, "too many at once; try again in a moment")
        next_file_s = time.monotonic() + _FILE_INTERVAL_S
        return await asyncio.to_thread(write)

    @app.post("/api/snapshot")
    async def take_snapshot() -> dict[str, Any]:
        shown = live.monitor.newest
        if shown is None:
            raise HTTPException(409, "there is no picture yet; try again when there is")
        return {"file": str(await write_file(lambda: snapshot.save(shown, folder)))}

    @app.post("/api/record")
    async def record(wanted: RecordChange) -> dict[str, Any]:
        def start() -> Path:
            path = snapshot.new_name(folder, ".mp4")
            live.recorder.start(path)
            return path

        path = live.recorder.recording
        if wanted.on and path is None:
            path = await write_file(start)
        elif not wanted.on:
            path = live.recorder.stop()
        return {"recording": wanted.on, "file": str(path) if path else None}

    @app.websocket("/ws")
    async def watch(websocket: WebSocket) -> None:
        nonlocal watchers
        if watchers >= _MOST_WATCHERS:
            await websocket.close(1013, "too many browsers watch already; close one")
            return
        await websocket.accept()
        watchers += 1
        try:
            await _serve(websocket, pictures, statuses)
        finally:
            watchers -= 1

    _serve_page(app)
    return app


def _serve_page(app: FastAPI) -> None:
    """The page's files, with types of our own: a system's registry may call scripts text."""
    files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in _TYPES}

    @app.get("/")
    @app.get("/{name}")
    async def file(name: str = "index.html") -> Response:
        data = files.get(name)
        if data is None:
            raise HTTPException(404, f"there is nothing at {name!r}; the page is at the start")
        return Response(data, media_type=_TYPES[Path(name).suffix])


async def _serve(websocket: WebSocket, pictures: Pictures, statuses: Statuses) -> None:
    """Give one browser what it is ready for, until it leaves."""
    wants = {"picture": asyncio.Event(), "status": asyncio.Event()}

    async def wanted(what: str) -> None:
        await wants[what].wait()
        wants[what].clear()

    async def send_pictures() -> None:
        number = 0
        while True:
            await wanted("picture")
            picture = await pictures.newer(number)
            number = picture.number
            await websocket.send_bytes(picture.message)

    async def send_statuses() -> None:
        while True:
            await wanted("status")
            await websocket.send_text(statuses.text)
            await asyncio.sleep(_STATUS_S)

    async def receive() -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            if message.get("text") not in wants:
                await websocket.close(1008, 'expected the word "picture" or "status"')
                raise WebSocketDisconnect(1008)
            wants[message["text"]].set()

    try:
        async with asyncio.TaskGroup() as group:
            for work in (send_pictures, send_statuses, receive):
                group.create_task(work())
    except* WebSocketDisconnect:
        _log.debug("a browser has left the panel")


def _answer_errors_in_one_line(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _one_line(error)}, 422)

    @app.exception_handler(HttpError)
    async def refused(_request: Request, error: HttpError) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(CagfaceError)
    async def impossible(_request: Request, error: CagfaceError) -> JSONResponse:
        return JSONResponse({"error": one_line(error)}, 422)

    @app.exception_handler(Exception)
    async def broken(_request: Request, error: Exception) -> JSONResponse:
        _log.warning("the panel failed at a request (%s: %s)", type(error).__name__, error)
        return JSONResponse({"error": "this went wrong; the terminal says how"}, 500)


def _one_line(error: RequestValidationError) -> str:
    """What is wrong with the first value that is wrong, with its name."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first['ctx']['error']}"
    if isinstance(first["input"], bytes):
        return "the body is not said to be JSON; expected Content-Type: application/json"
    name = ".".join(str(part) for part in first["loc"][1:] if part != "[key]")
    given = json.dumps(first["input"], default=str)
    what = first["msg"].removeprefix("Value error, ")
    return f"{name or 'body'}: {what}; got {given if len(given) <= 60 else given[:57] + '...'}"
