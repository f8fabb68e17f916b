"""The proxy between sandboxed scaffolds and the world: a Unix socket and a token a rollout, every step recorded.

    async with PolicyProxy(endpoint) as proxy:
        session = await proxy.open(version, seed=7, tools=tools)
        ...  # a sandbox talks to session.socket with session.token
        proxy.close(session)
        session.steps

A scaffold names neither model nor seed nor server, and the server's key never leaves this process.
"""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..core import Version
from ..safety.budget.calls import Spending
from ..safety.sandbox.untrusted import parse_untrusted
from .candidates import CandidateMeter
from .forwarding import ModelServer
from .listening import Listener
from .lockstep import Lockstep
from .model_calls import call_model
from .policy import Endpoint
from .recording import Asked, Kind
from .refusal import Refused, say
from .session import CallLimits, Session
from .streaming import events
from .tool_calls import call_tool
from .tools import Tool


class PolicyProxy:
    """Serves the scaffolds of many rollouts; an async context manager.

    Args:
        endpoint: the model server.
        candidates: counts what the rollouts of each version use together, and limits it.
    """

    def __init__(self, endpoint: Endpoint, candidates: CandidateMeter | None = None) -> None:
        self._model_server = ModelServer(endpoint)
        self._candidates = candidates or CandidateMeter()
        self._open: dict[str, tuple[Session, Listener]] = {}
        self._closed: list[Listener] = []
        self._folder = Path(tempfile.gettempdir())
        routes = [Route(f"/v1/{kind.value}", self._model, methods=["POST"], name=kind.name) for kind in Kind]
        routes += [Route("/v1/models", self._models), Route("/tools/{name}", self._tool, methods=["POST"])]
        self._app = Starlette(routes=routes, exception_handlers={Refused: say, HTTPException: say})

    async def __aenter__(self) -> "PolicyProxy":
        # A socket's path has at most 107 bytes.
        parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 80 else "/tmp"  # noqa: S108
        self._folder = Path(tempfile.mkdtemp(prefix="pawl-", dir=parent)).resolve()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session, _ in list(self._open.values()):
            self.close(session)
        await asyncio.gather(*(listener.ended() for listener in self._closed))
        await self._model_server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def open(
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
        """Admit a rollout: listen on a socket of its own, in a folder that only this user can enter.

        Args:
            version: gives model and sampling.
            seed: of the rollout; its k-th model call carries `derive_seed(seed, "call", k)`.
            tools: what it may call.
            limits: what it may ask for.
            lockstep: the barrier of its batch; one of its own where it runs alone.
            member: its index in the batch.
            spending: what its model calls are paid from.
        """
        name = secrets.token_hex(8)
        session = Session(
            version=version,
            seed=seed,
            tools={tool.name: tool for tool in tools},
            limits=limits or CallLimits(),
            lockstep=lockstep or Lockstep(secrets.token_hex(4), 1, 1.0),
            member=member,
            spending=spending,
            candidate=self._candidates.of(version),
            socket=self._folder / name,
        )
        listener = Listener(self._app, session.socket, session.limits, {"session": session})
        await listener.open()
        self._open[name] = session, listener
        return session

    def close(self, session: Session) -> None:
        """End a rollout: its socket and token are void, its steps are final, and nobody waits for it."""
        session.closed = True
        _, listener = self._open.pop(session.socket.name, (None, None))
        if listener is not None:
            listener.close()
            self._closed.append(listener)
        session.lockstep.end(session.member)

    async def _model(self, request: Request) -> Response:
        session: Session = request.state.session
        async with session.admit(request.headers.get("authorization", "")):
            kind = Kind(request.url.path.removeprefix("/v1/"))
            try:
                asked = Asked.parse(kind, await _body(request, session))
            except ValueError as error:
                raise Refused(400, str(error)) from error
            reply = await call_model(session, self._model_server, kind, asked)
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return StreamingResponse(events(kind, reply, usage=usage), media_type="text/event-stream")
        return JSONResponse(reply)

    async def _models(self, request: Request) -> Response:
        """The one model there is, under a name that says nothing; programs ask for the list before they begin."""
        session: Session = request.state.session
        async with session.admit(request.headers.get("authorization", "")):
            policy = {"id": "policy", "object": "model", "created": 0, "owned_by": "pawl"}
            return JSONResponse({"object": "list", "data": [policy]})

    async def _tool(self, request: Request) -> Response:
        session: Session = request.state.session
        async with session.admit(request.headers.get("authorization", "")):
            body = await _body(request, session)
            return JSONResponse(await call_tool(session, str(request.path_params["name"]), body))


async def _body(request: Request, session: Session) -> JsonValue:
    """Read a request's JSON, under a cap and in time; the rollout's token has no place in it."""
    limits, data = session.limits, bytearray()
    try:
        async with asyncio.timeout(limits.request_seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limits.request_bytes:
                    raise Refused(413, f"a request has at most {limits.request_bytes} bytes")
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {limits.request_seconds:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "the request broke off") from None
    if session.token.encode() in data:
        raise Refused(400, "the request's body holds the rollout's token, which goes into its header alone")
    try:
        return parse_untrusted(bytes(data))
    except ValueError as error:
        raise Refused(400, f"the body is not JSON that can be used: {error}") from error
