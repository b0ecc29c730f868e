"""A live run goes in; a page on this machine's loopback comes out, until it is closed."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from cagface_core import DeviceError
from realtime.panel.app import make_app
from realtime.panel.guard import Guard

if TYPE_CHECKING:
    from realtime.handles import Live

_HOST = "127.0.0.1"
_MOST_CONNECTIONS = 128
_LARGEST_MESSAGE_BYTES = 1024
"""A browser sends single words over its WebSocket."""


class Panel:
    """The web page of one live run, served by a thread of its own.

    The port is taken at once, so that a mistake is known before the run begins; requests are
    answered from `start` to `close`.

    Args:
        port: 0 for any that is free.

    Raises:
        DeviceError: the port is taken or not allowed.
    """

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket()
        try:
            if sys.platform != "win32":  # there it would let a second program in
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((_HOST, port))
            self._socket.listen()  # who comes before the server is up waits for it
        except OSError as error:
            self._socket.close()
            raise DeviceError(
                f"port {port} for --panel cannot be used ({error.strerror}); name another, or "
                "leave it out for any that is free"
            ) from error
        self._port: int = self._socket.getsockname()[1]
        self._token = secrets.token_urlsafe(24)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The page's address, with the token that opens it."""
        return f"http://{_HOST}:{self._port}/{self._token}/"

    def start(self, live: Live, folder: Path) -> None:
        """Begin to serve.

        Args:
            live: the run that is shown and steered.
            folder: where snapshots and recordings go.
        """
        config = uvicorn.Config(
            Guard(make_app(live, folder), self._port, self._token),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=_LARGEST_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # JPEG does not shrink
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        # Its own lines are for an operator of servers; what matters here is logged by the app.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        if sys.platform == "win32":  # where each page that is closed is an error of asyncio's
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="panel", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Disconnect every browser, end the thread, free the port; may be called twice."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None
        self._socket.close()
