"""A double of a model server for the tests of evals/: it has no model, and chooses by a planted skill.

The real server is covered by the tests of serving/. Here what matters is a policy whose skill is known: a request for
the base model draws evenly, one for an adapter named in `skills` picks that adapter's favourite where it is offered.
"""

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pawl.serving.policy import Endpoint

KEY = "key-of-the-provider"


@dataclass
class PlantedServer:
    """Chooses among labels; counts what it is asked."""

    skills: Mapping[str, list[str]]
    """Adapter, or adapter/chat for how it is in chats, to the labels that it prefers, best first."""
    port: int = 0
    requests: list[dict] = field(default_factory=list)
    down: bool = False
    script: Callable[[list[dict]], str] | None = None
    """Writes the answer to a chat's messages, where a test wants words rather than a label."""

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key=SecretStr(KEY), base_model="planted", is_local=True
        )

    async def complete(self, request: Request) -> JSONResponse:
        body = await request.json()
        if request.headers.get("authorization") != f"Bearer {KEY}" or self.down:
            return JSONResponse({"error": {"message": "planted failure"}}, status_code=503 if self.down else 401)
        self.requests.append(body)
        chat = "messages" in body
        prompt = json.dumps(body["messages"]) if chat else body["prompt"]
        choices = body.get("structured_outputs", {}).get("choice") or [f" {label}" for label in "ABCDEFGH"]
        skill = self.skills.get(f"{body['model']}/chat" if chat else body["model"], [])
        liked = [each for each in skill if each in choices]
        text = liked[0] if liked else random.Random(f"{body['seed']}{prompt}").choice(choices)
        if chat and self.script is not None:
            text = self.script(body["messages"])
        token = sum(text.encode())
        answer = {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": {"tokens": [text], "token_logprobs": [-1.0], "content": [{"token": text, "logprob": -1.0}]},
            "token_ids": [token],
            "prompt_token_ids": list(prompt.encode()),
            **({"message": {"role": "assistant", "content": text}} if chat else {"text": text}),
        }
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1, "total_tokens": len(prompt) + 1}
        reply = {"id": "x", "object": "x", "model": body["model"], "choices": [answer], "usage": usage}
        return JSONResponse({**reply, "prompt_token_ids": answer["prompt_token_ids"]})


@contextmanager
def planted_server(skills: Mapping[str, list[str]] | None = None) -> Iterator[PlantedServer]:
    """Serve on a free port, in a thread, until the block ends."""
    planted = PlantedServer(skills or {})
    routes = [Route(f"/v1/{path}", planted.complete, methods=["POST"]) for path in ("completions", "chat/completions")]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    planted.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield planted
    finally:
        server.should_exit = True
        thread.join()
