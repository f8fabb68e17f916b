"""The controller's relay to the model server, for the judge: the key stays here, the judge gets a token of the day.

Requests under `/v1/` go on to the endpoint as they are, but for the authorization; whatever the endpoint may be at
that moment, since a local server comes and goes.
"""

import asyncio
import secrets
import socket
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..serving.policy import Endpoint

PASSED_ON = ("content-type", "x-pawl-batch", "x-pawl-batch-size", "x-pawl-batch-index")


class ModelRelay:
    """A server on a Unix socket in a private folder; `endpoint` may be set anew at any time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.token = secrets.token_urlsafe(24)
        self._folder = tempfile.TemporaryDirectory(prefix="pawl-relay-")  # short: a socket's path has 108 bytes
        self.socket = str(Path(self._folder.name) / "model.sock")
        self._clients: dict[str | None, httpx.AsyncClient] = {}
        app = Starlette(routes=[Route("/v1/{path:path}", self._forward, methods=["GET", "POST"])])
        self._server = _Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket)
        listener.listen(256)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        self._server.should_exit = self._server.force_exit = True
        if self._serving is not None:
            await self._serving
        for client in self._clients.values():
            await client.aclose()
        self._folder.cleanup()

    async def _forward(self, request: Request) -> Response:
        if not secrets.compare_digest(request.headers.get("authorization", ""), f"Bearer {self.token}"):
            return _error(401, "the relay's token is missing or wrong")
        endpoint = self.endpoint
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        if endpoint.api_key is not None:
            headers["authorization"] = f"Bearer {endpoint.api_key.get_secret_value()}"
        try:
            answer = await self._client(endpoint).request(
                request.method,
                f"{endpoint.base_url.rstrip('/')}/{request.path_params['path']}",
                content=await request.body(),
                headers=headers,
                timeout=endpoint.timeout_seconds,
            )
        except httpx.HTTPError as error:
            return _error(502, f"the model endpoint can't be reached: {type(error).__name__}")
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    def _client(self, endpoint: Endpoint) -> httpx.AsyncClient:
        if endpoint.socket not in self._clients:
            transport = httpx.AsyncHTTPTransport(uds=endpoint.socket, limits=httpx.Limits(max_connections=None))
            self._clients[endpoint.socket] = httpx.AsyncClient(transport=transport)
        return self._clients[endpoint.socket]


class _Server(uvicorn.Server):
    """Leaves the process's signal handlers alone."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "relay_error", "code": status}}, status_code=status)
