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
import json
import logging
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import httpx
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..core import ConfigurationError, NotFound, PawlError, Step, ToolCall, Usage, Version, derive_seed
from ..safety.sandbox.untrusted import parse_untrusted
from .lockstep import Ended, Lockstep, Turn
from .policy import Endpoint
from .recording import Asked, Kind, forwarded, recorded
from .tools import Tool

_LOG = logging.getLogger(__name__)
_REQUEST_BYTES = 2 << 20
_REPLY_BYTES = 32 << 20
_ATTEMPTS = 3
_TRY_AGAIN = frozenset({429, 503})
_EXTRA = "return_token_ids"


class CallLimits(BaseModel):
    """What one rollout may ask for."""

    model_config = ConfigDict(frozen=True)

    calls: int = Field(default=256, ge=1)
    """Requests to the model."""
    tokens: int = Field(default=200_000, ge=1)
    """Input and output tokens of all calls together; checked before each call, so that the last may pass it by its
    prompt."""


@dataclass
class Session:
    """One rollout as the proxy sees it; what is recorded here is the trajectory's body."""

    version: Version
    seed: int
    tools: dict[str, Tool]
    limits: CallLimits
    lockstep: Lockstep
    member: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    steps: list[Step] = field(default_factory=list[Step])
    usage: Usage = field(default_factory=Usage)
    calls: int = 0
    tool_calls: dict[str, int] = field(default_factory=dict[str, int])
    model_error: str | None = None
    """The endpoint's words, once it has failed."""
    tool_error: PawlError | None = None
    """What a trusted tool raised that isn't the candidate's doing: a stop, a spent budget, damaged machinery."""
    closed: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One request at a time, so that steps have an order."""

    def record(self, step: Step) -> None:
        """Append a step, unless the rollout is over."""
        if not self.closed:
            self.steps.append(step)
            self.usage += step.usage if step.kind != "note" else Usage()


class _Refused(Exception):
    """A request that isn't served, with the status and words that the scaffold gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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
        self._endpoint = endpoint
        self._sessions: dict[str, Session] = {}
        self._folder = Path(tempfile.gettempdir())
        self._serving: asyncio.Task[None] | None = None
        routes = [Route(f"/v1/{kind.value}", self._model, methods=["POST"], name=kind.name) for kind in Kind]
        app = Starlette(
            routes=[*routes, Route("/tools/{name}", self._tool, methods=["POST"])], exception_handlers={_Refused: _say}
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
        transport = httpx.AsyncHTTPTransport(
            uds=endpoint.socket, limits=httpx.Limits(max_connections=None, max_keepalive_connections=64)
        )
        key = endpoint.api_key
        self._client = httpx.AsyncClient(
            transport=transport,
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=endpoint.timeout_seconds,
        )

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
        await self._client.aclose()
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
    ) -> Session:
        """Admit a rollout.

        Args:
            version: gives model and sampling.
            seed: of the rollout; its k-th model call carries `derive_seed(seed, "call", k)`.
            tools: what it may call.
            limits: what it may ask for.
            lockstep: the barrier of its batch; one of its own where it runs alone.
            member: its index in the batch.
        """
        session = Session(
            version=version,
            seed=seed,
            tools={tool.name: tool for tool in tools},
            limits=limits or CallLimits(),
            lockstep=lockstep or Lockstep(secrets.token_hex(4), 1, 1.0),
            member=member,
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
                raise _Refused(400, str(error)) from error
            return JSONResponse(await self._call(session, kind, asked))

    async def _call(self, session: Session, kind: Kind, asked: Asked) -> JsonValue:
        room = session.limits.tokens - session.usage.tokens
        if session.calls >= session.limits.calls or room <= 0:
            limits = f"{session.limits.calls} calls and {session.limits.tokens} tokens"
            raise _Refused(429, f"this rollout has used up its {limits}; answer with what there is")
        body = forwarded(kind, asked, session.version, derive_seed(session.seed, "call", session.calls), room)
        session.calls += 1
        turn = await session.lockstep.turn(session.member)
        try:
            reply = await self._forward(kind, body, turn)
            step = recorded(kind, asked, body, reply)
        except (ValueError, httpx.HTTPError, TimeoutError) as error:
            session.model_error = self._words(error)
            raise _Refused(502, session.model_error) from error
        finally:
            session.lockstep.back(session.member)
        session.record(step)
        return reply

    async def _forward(self, kind: Kind, body: dict[str, JsonValue], turn: Turn | None) -> JsonValue:
        """Send one request on; one that the server is too busy for is sent again."""
        headers = {"Content-Type": "application/json"}
        place: dict[str, str] = {}
        if turn is not None:
            place = {
                "X-Pawl-Batch": turn.batch,
                "X-Pawl-Batch-Size": str(turn.size),
                "X-Pawl-Batch-Index": str(turn.index),
            }
        url, content = f"{self._endpoint.base_url.rstrip('/')}/{kind.value}", json.dumps(body)
        for attempt in range(_ATTEMPTS):
            async with asyncio.timeout(self._endpoint.timeout_seconds):
                async with self._client.stream("POST", url, content=content, headers=headers | place) as response:
                    data = bytearray()
                    async for chunk in response.aiter_bytes():
                        data += chunk
                        if len(data) > _REPLY_BYTES:
                            raise ValueError(f"a reply of more than {_REPLY_BYTES} bytes")
            if response.status_code in _TRY_AGAIN and attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(0.25 * 4**attempt)
                place = {}  # its batch has gone without it
                continue
            if response.status_code in (400, 422) and _EXTRA in body and _EXTRA.encode() in data:
                # A hosted provider that doesn't know vLLM's field: without token ids the answer still counts.
                del body[_EXTRA]
                content = json.dumps(body)
                continue
            if response.status_code != 200:
                words = data[:500].decode(errors="replace")
                raise ValueError(f"status {response.status_code}: {words}")
            return parse_untrusted(bytes(data))
        raise AssertionError

    def _words(self, error: Exception) -> str:
        where = self._endpoint.socket or self._endpoint.base_url
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return f"The model server at {where} did not answer within {self._endpoint.timeout_seconds:g} s."
        if isinstance(error, httpx.HTTPError):
            return f"The model server at {where} can't be reached: {error or type(error).__name__}."
        return f"The model server at {where} answered what can't be used: {error}."

    async def _tool(self, request: Request) -> Response:
        async with self._answering(request) as (session, body):
            name = str(request.path_params["name"])
            tool = session.tools.get(name)
            if tool is None:
                raise _Refused(404, f"no tool {name!r}; there are: {', '.join(sorted(session.tools)) or 'none'}")
            arguments = body.get("arguments") if isinstance(body, dict) else None
            if not isinstance(arguments, dict):
                raise _Refused(400, 'expected {"arguments": {...}}')
            if session.tool_calls.get(name, 0) >= tool.limit:
                raise _Refused(429, f"this rollout has used up its {tool.limit} calls of {name!r}")
            session.tool_calls[name] = session.tool_calls.get(name, 0) + 1
            with session.lockstep.tool(session.member):
                try:
                    result = await tool.run(arguments)
                except Exception as error:
                    if isinstance(error, PawlError) and not isinstance(error, ConfigurationError | NotFound):
                        session.tool_error = error
                        raise _Refused(500, "the tool failed") from error
                    _LOG.warning("The tool %r failed.", name, exc_info=True)
                    failure: dict[str, JsonValue] = {"error": f"the tool failed: {type(error).__name__}"}
                    session.record(ToolCall(name=name, arguments=arguments, result=failure))
                    raise _Refused(500, "the tool failed") from error
            session.record(ToolCall(name=name, arguments=arguments, result=result.value, usage=result.usage))
            return JSONResponse({"result": result.value})

    @contextlib.asynccontextmanager
    async def _answering(self, request: Request) -> AsyncGenerator[tuple[Session, JsonValue]]:
        """Find the rollout by its token, read the body under a cap, and wait for the rollout's earlier request."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        session = self._sessions.get(token)
        if scheme != "Bearer" or session is None:
            raise _Refused(401, "expected the header `Authorization: Bearer` with this rollout's token")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > _REQUEST_BYTES:
                raise _Refused(413, f"a request has at most {_REQUEST_BYTES} bytes")
        try:
            body = parse_untrusted(bytes(data))
        except ValueError as error:
            raise _Refused(400, f"the body is not JSON that can be used: {error}") from error
        async with session.turn:
            if session.closed:
                raise _Refused(410, "this rollout is over")
            if session.model_error is not None:
                raise _Refused(502, session.model_error)
            try:
                yield session, body
            except Ended:
                raise _Refused(410, "this rollout is over") from None


async def _say(_: Request, error: Exception) -> Response:
    """An error in OpenAI's form."""
    status = error.status if isinstance(error, _Refused) else 500
    return JSONResponse({"error": {"message": str(error), "type": "pawl", "code": status}}, status)
