"""The local model server: vLLM's API, as far as Pawl uses it, over a small model on the CPU.

    python -P -m pawl.serving.server --model-dir DIR --name smollm2 --port 0 --ready-file ready.json

It binds 127.0.0.1 alone. With `--api-key-file` every request but /health needs that key as a bearer token.
"""

import argparse
import asyncio
import hmac
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..core import ConfigurationError
from .batching import Batcher, Member
from .wire import (
    CHAT_TOKENS,
    AdapterBody,
    ChatBody,
    CompletionBody,
    TokenizeBody,
    chat_choice,
    completion_choice,
    envelope,
    failure,
    usage,
)

if TYPE_CHECKING:
    from .engine import Engine

B = TypeVar("B", bound=BaseModel)


class _Refusal(Exception):
    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.body = failure(status, kind, message)
        self.status = status


class ModelServer:
    """The application's state: an engine, its batches, and when it was last asked something."""

    def __init__(
        self,
        engine: "Engine",
        name: str,
        digest: str = "",
        api_key: str | None = None,
        max_lora_rank: int | None = None,
    ) -> None:
        self.engine = engine
        self.name = name
        self.digest = digest
        self.last_asked = time.monotonic()
        self.in_flight = 0
        self._batcher = Batcher(engine)
        self._api_key = api_key
        self._max_lora_rank = max_lora_rank
        self._paths: dict[str, str] = {}
        self._started = int(time.time())
        self.app = Starlette(
            routes=[
                Route("/health", self._guard(self._health, open_to_all=True)),
                Route("/v1/models", self._guard(self._models)),
                Route("/v1/completions", self._guard(self._completions), methods=["POST"]),
                Route("/v1/chat/completions", self._guard(self._chat), methods=["POST"]),
                Route("/v1/load_lora_adapter", self._guard(self._load), methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._guard(self._unload), methods=["POST"]),
                Route("/tokenize", self._guard(self._tokenize), methods=["POST"]),
            ]
        )

    def _guard(
        self, handler: Callable[[HttpRequest], Awaitable[Response]], open_to_all: bool = False
    ) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def guarded(request: HttpRequest) -> Response:
            self.last_asked = time.monotonic()
            self.in_flight += 1
            try:
                given = request.headers.get("authorization", "").removeprefix("Bearer ")
                if (
                    self._api_key
                    and not open_to_all
                    and not hmac.compare_digest(given.encode(), self._api_key.encode())
                ):
                    raise _Refusal(401, "AuthenticationError", "This server needs its key as a bearer token.")
                return await handler(request)
            except _Refusal as refusal:
                return JSONResponse(refusal.body, refusal.status)
            except ValidationError as error:
                lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
                return JSONResponse(failure(400, "BadRequestError", lines), 400)
            except ConfigurationError as error:
                return JSONResponse(failure(400, "BadRequestError", str(error)), 400)
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
                return JSONResponse(failure(500, "InternalServerError", message), 500)
            finally:
                self.in_flight -= 1
                self.last_asked = time.monotonic()

        return guarded

    async def _health(self, _: HttpRequest) -> Response:
        return JSONResponse({"status": "ok", "model": self.name, "digest": self.digest})

    async def _models(self, _: HttpRequest) -> Response:
        common = {"object": "model", "created": self._started, "owned_by": "pawl"}
        length = self.engine.max_model_len
        base = {**common, "id": self.name, "root": self.name, "parent": None, "max_model_len": length}
        adapters = [
            {**common, "id": name, "root": self._paths.get(name, name), "parent": self.name, "max_model_len": length}
            for name in self.engine.adapters
        ]
        return JSONResponse({"object": "list", "data": [{**base, "digest": self.digest}, *adapters]})

    async def _completions(self, request: HttpRequest) -> Response:
        body = await _parse(request, CompletionBody)
        adapter = self._adapter(body.model)
        prompts = body.prompts(self.engine.encode)
        labels = self._labels(body)
        allowed = self._allowed(body)
        limit = 16 if body.max_tokens is None else body.max_tokens
        top = body.logprobs or 0
        wanted = [r for prompt in prompts for r in body.requests(prompt, adapter, limit, top, labels or allowed)]
        scores: list[list[float | None]] = [[] for _ in prompts]
        if body.prompt_logprobs is not None or (body.echo and body.logprobs is not None):
            for index, prompt in enumerate(prompts):
                scores[index] = await self._batcher.call(lambda tokens=prompt: self.engine.score(tokens, adapter))
        answers = await self._batcher.submit(wanted, _member(request))
        choices = [
            completion_choice(i, body, prompts[i // body.n], answer, self.engine.decode, scores[i // body.n])
            for i, answer in enumerate(answers)
        ]
        for choice in choices if labels else []:
            choice["choice_token_ids"] = [list(label) for label in labels]
        return JSONResponse(envelope("text_completion", body.model, choices, usage(prompts, answers)))

    async def _chat(self, request: HttpRequest) -> Response:
        body = await _parse(request, ChatBody)
        adapter = self._adapter(body.model)
        prompt = self.engine.encode(self.engine.chat(body.texts()))
        labels = self._labels(body)
        limit = body.max_completion_tokens or body.max_tokens
        if limit is None:
            limit = max(1, min(CHAT_TOKENS, self.engine.max_model_len - len(prompt)))
        top = (body.top_logprobs or 0) if body.logprobs else 0
        answers = await self._batcher.submit(body.requests(prompt, adapter, limit, top, labels), _member(request))
        choices = [chat_choice(i, body, answer, self.engine.decode) for i, answer in enumerate(answers)]
        for choice in choices if labels else []:
            choice["choice_token_ids"] = [list(label) for label in labels]
        result = envelope("chat.completion", body.model, choices, usage([prompt], answers))
        result["prompt_token_ids"] = list(prompt) if body.return_token_ids else None
        return JSONResponse(result)

    async def _load(self, request: HttpRequest) -> Response:
        body = await _parse(request, AdapterBody)
        if body.lora_name == self.name:
            raise ConfigurationError(f"{self.name!r} is the base model's name; name an adapter by its digest.")
        folder = Path(body.lora_path)
        if not body.lora_path or not folder.is_dir():
            raise _Refusal(404, "NotFoundError", f"No adapter lies at {body.lora_path!r}; expected a folder.")
        if self._max_lora_rank is not None and (rank := _rank(folder)) > self._max_lora_rank:
            raise ConfigurationError(f"LoRA rank {rank} is greater than max_lora_rank {self._max_lora_rank}.")
        await self._batcher.call(lambda: self.engine.load_adapter(body.lora_name, folder))
        self._paths[body.lora_name] = body.lora_path
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def _unload(self, request: HttpRequest) -> Response:
        body = await _parse(request, AdapterBody)
        if not await self._batcher.call(lambda: self.engine.unload_adapter(body.lora_name)):
            raise _Refusal(404, "NotFoundError", f"The LoRA adapter '{body.lora_name}' cannot be found.")
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    async def _tokenize(self, request: HttpRequest) -> Response:
        tokens = self.engine.encode((await _parse(request, TokenizeBody)).prompt)
        return JSONResponse({"count": len(tokens), "max_model_len": self.engine.max_model_len, "tokens": list(tokens)})

    def _adapter(self, model: str) -> str | None:
        if model == self.name:
            return None
        if model not in self.engine.adapters:
            raise _Refusal(
                404, "NotFoundError", f"The model `{model}` does not exist; /v1/models lists what is served."
            )
        return model

    def _allowed(self, body: CompletionBody) -> list[tuple[int, ...]]:
        """The tokens that may be drawn, as labels of one token."""
        tokens = sorted(set(body.allowed_token_ids or []))
        if tokens and tokens[-1] >= self.engine.vocabulary:
            raise ConfigurationError(f"allowed_token_ids has {tokens[-1]}, which is no token of this model.")
        return [(token,) for token in tokens]

    def _labels(self, body: CompletionBody | ChatBody) -> list[tuple[int, ...]]:
        return [self.engine.encode(c) for c in body.structured_outputs.choice] if body.structured_outputs else []


async def _parse(request: HttpRequest, kind: type[B]) -> B:
    try:
        data: Any = json.loads(await request.body())
    except ValueError as error:
        raise _Refusal(400, "BadRequestError", f"The body is no JSON: {error}") from error
    return kind.model_validate(data)


def _rank(folder: Path) -> int:
    """The rank of an adapter as its config says; 0 where it says none, which the engine will tell."""
    try:
        return int(json.loads((folder / "adapter_config.json").read_bytes())["r"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _member(request: HttpRequest) -> Member | None:
    batch = request.headers.get("x-pawl-batch")
    if not batch:
        return None
    try:
        size, index = int(request.headers["x-pawl-batch-size"]), int(request.headers["x-pawl-batch-index"])
    except (KeyError, ValueError) as error:
        raise ConfigurationError("X-Pawl-Batch needs whole numbers in X-Pawl-Batch-Size and -Index.") from error
    return Member(batch, size, index)


async def serve(server: ModelServer, listener: socket.socket, idle_exit: float | None = None) -> None:
    """Serve until a signal, or until nobody has asked anything for `idle_exit` seconds."""
    web = uvicorn.Server(uvicorn.Config(server.app, log_level="warning", lifespan="off", access_log=False))

    async def watch(limit: float) -> None:
        while not web.should_exit:
            await asyncio.sleep(min(1.0, limit / 4))
            if server.in_flight == 0 and time.monotonic() - server.last_asked > limit:
                web.should_exit = True

    watcher = asyncio.create_task(watch(idle_exit)) if idle_exit else None
    try:
        await web.serve(sockets=[listener])
    finally:
        if watcher:
            watcher.cancel()


def main() -> None:
    """Run the server from the command line."""
    parser = argparse.ArgumentParser(prog="python -P -m pawl.serving.server", description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--name", required=True, help="name of the base model in requests")
    parser.add_argument("--digest", default="", help="digest of the base model, told at /health and /v1/models")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help="JSON with pid and port, written when requests are answered")
    parser.add_argument("--api-key-file", type=Path)
    parser.add_argument("--idle-exit", type=float, help="seconds without a request after which it ends")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--cache-tokens", type=int, default=16384)
    parser.add_argument("--max-lora-rank", type=int, help="refuse adapters of a larger rank")
    options = parser.parse_args()

    import torch

    from .engine import Engine

    torch.set_num_threads(options.threads)
    engine = Engine.load(options.model_dir, dtype=options.dtype, cache_tokens=options.cache_tokens)
    key = options.api_key_file.read_text().strip() if options.api_key_file else None
    server = ModelServer(engine, options.name, options.digest, key, options.max_lora_rank)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", options.port))
        listener.listen(256)
        if options.ready_file:
            ready = {"pid": os.getpid(), "port": listener.getsockname()[1], "name": options.name}
            fresh = options.ready_file.with_suffix(f".{os.getpid()}.tmp")
            fresh.write_text(json.dumps({**ready, "digest": options.digest}))
            fresh.replace(options.ready_file)
        asyncio.run(serve(server, listener, options.idle_exit))


if __name__ == "__main__":
    main()
