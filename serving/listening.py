"""A Unix socket of one rollout's own, served by uvicorn, with bounds on what a hostile client can do to a server.

What a rollout can hold up, fill or wear out here is its own connections; another rollout's socket isn't in its sandbox.
"""

import asyncio
import functools
import logging
import socket
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .session import CallLimits

_QUIET = logging.getLogger(f"{__name__}.clients")
_QUIET.setLevel(logging.ERROR)  # a warning for every malformed request would let a program fill the log
_GRACE_SECONDS = 1.0


class _Connection(H11Protocol):
    """A client's connection: one of a limited number, whose requests arrive whole and in time."""

    def __init__(self, limits: CallLimits, config: uvicorn.Config, state: ServerState, extra: dict[str, Any]) -> None:
        super().__init__(config, state, extra)
        self.logger = _QUIET
        self._limits = limits
        self._arriving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0]:
            self._arrived()
        elif self._arriving is None:
            self._arriving = self.loop.call_later(self._limits.request_seconds, self._too_slow)

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(f"The request did not arrive within {self._limits.request_seconds:g} s.")


class Listener:
    """Serves an application on one Unix socket.

    Args:
        app: the application.
        path: of the socket, which is made here; at most 107 bytes.
        limits: of its connections.
        state: found by the application as `request.state`.
    """

    def __init__(self, app: ASGIApp, path: Path, limits: CallLimits, state: dict[str, Any]) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            timeout_keep_alive=3600,
            h11_max_incomplete_event_size=limits.header_bytes,
        )
        config.load()
        self.path = path
        self._state = ServerState()
        self._connect = functools.partial(_Connection, limits, config, self._state, state)
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        self._server = await asyncio.get_running_loop().create_unix_server(self._connect, sock=listener)

    def close(self) -> None:
        """Take no more connections or requests; what is being answered goes on to its end."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        for connection in list(self._state.connections):
            connection.transport.abort()

    async def ended(self) -> None:
        """Wait a moment for what is being answered, then break it off."""
        tasks = list(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
