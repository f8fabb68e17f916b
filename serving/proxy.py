"""The proxy between sandboxed scaffolds and the world: one Unix socket, one token a rollout, every step recorded.

    async with PolicyProxy(endpoint) as proxy:
        session = proxy.open(version, seed=7, tools=tools)
        ...  # a sandbox talks to proxy.socket with session.token
        proxy.close(session)
        session.steps

A scaffold names neither model nor seed nor server, and the server's key never leaves this process.
"""

import asyncio
import contextlib
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path
from types import TracebackType

import uvicorn
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..core import Version
from ..safety.budget.calls import Spending
from ..safety.sandbox.untrusted import parse_untrusted
from .forwarding import ModelServer
from .lockstep import Ended, Lockstep
from .model_calls import call_model
from .policy import Endpoint
from .recording import Asked, Kind
from .refusal import Refused, say
from .session import CallLimits, Session
from .tool_calls import call_tool
from .tools import Tool

_REQUEST_BYTES = 2 << 20


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the process that this server is a guest in."""
        yield


class PolicyProxy:
    """Serves the scaffolds of many rollouts; an async context manager.

    Args:
        endpoint: the model server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._model_server = ModelServer(endpoint)
        self._sessions: dict[str, Session] = {}
        self._folder = Path(tempfile.gettempdir())
        self._serving: asyncio.Task[None] | None = None
        routes = [Route(f"/v1/{kind.value}", self._model, methods=["POST"], name=kind.name) for kind in Kind]
        app = Starlette(
            routes=[*routes, Route("/tools/{name}", self._tool, methods=["POST"])], exception_handlers={Refused: say}
        )
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            timeout_keep_alive=3600,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)

    @property
    def socket(self) -> Path:
        """Path of the Unix socket, in a folder that only this user can enter."""
        return self._folder / "policy"

    async def __aenter__(self) -> "PolicyProxy":
        # A socket's path has at most 107 bytes.
        parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 80 else "/tmp"  # noqa: S108
        self._folder = Path(tempfile.mkdtemp(prefix="pawl-", dir=parent)).resolve()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.socket))
        listener.listen(256)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110 - uvicorn sets a flag, no event
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in list(self._sessions.values()):
            self.close(session)
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        await self._model_server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(
        self,
        version: Version,
        *,
        seed: int,
        tools: Sequence[Tool] = (),
        limits: CallLimits | None = None,
        lockstep: Lockstep | None = None,
        member: int = 0,
        spending: Spending | None = None,
    ) -> Session:
        """Admit a rollout.

        Args:
            version: gives model and sampling.
            seed: of the rollout; its k-th model call carries `derive_seed(seed, "call", k)`.
            tools: what it may call.
            limits: what it may ask for.
            lockstep: the barrier of its batch; one of its own where it runs alone.
            member: its index in the batch.
            spending: what its model calls are paid from.
        """
        session = Session(
            version=version,
            seed=seed,
            tools={tool.name: tool for tool in tools},
            limits=limits or CallLimits(),
            lockstep=lockstep or Lockstep(secrets.token_hex(4), 1, 1.0),
            member=member,
            spending=spending,
        )
        self._sessions[session.token] = session
        return session

    def close(self, session: Session) -> None:
        """End a rollout: its token is void, its steps are final, and nobody waits for it."""
        session.closed = True
        self._sessions.pop(session.token, None)
        session.lockstep.end(session.member)

    async def _model(self, request: Request) -> Response:
        async with self._answering(request) as (session, body):
            kind = Kind(request.url.path.removeprefix("/v1/"))
            try:
                asked = Asked.parse(kind, body)
            except ValueError as error:
                raise Refused(400, str(error)) from error
            return JSONResponse(await call_model(session, self._model_server, kind, asked))

    async def _tool(self, request: Request) -> Response:
        async with self._answering(request) as (session, body):
            return JSONResponse(await call_tool(session, str(request.path_params["name"]), body))

    @contextlib.asynccontextmanager
    async def _answering(self, request: Request) -> AsyncGenerator[tuple[Session, JsonValue]]:
        """Find the rollout by its token, read the body under a cap, and wait for the rollout's earlier request."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        session = self._sessions.get(token)
        if scheme != "Bearer" or session is None:
            raise Refused(401, "expected the header `Authorization: Bearer` with this rollout's token")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > _REQUEST_BYTES:
                raise Refused(413, f"a request has at most {_REQUEST_BYTES} bytes")
        try:
            body = parse_untrusted(bytes(data))
        except ValueError as error:
            raise Refused(400, f"the body is not JSON that can be used: {error}") from error
        async with session.turn:
            if session.closed:
                raise Refused(410, "this rollout is over")
            if session.model_error is not None:
                raise Refused(502, session.model_error)
            try:
                yield session, body
            except Ended:
                raise Refused(410, "this rollout is over") from None
