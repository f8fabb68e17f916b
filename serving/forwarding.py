"""The way to the endpoint: a request goes on with the server's key, and its answer comes back as JSON."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from pydantic import JsonValue

from ..core.urls import without_secrets
from ..safety.sandbox.untrusted import parse_untrusted
from ..safety.telemetry.model_calls import Server
from .choices import ChoiceTokens, masked, told
from .lockstep import Turn
from .policy import Endpoint
from .recording import Kind

_REPLY_BYTES = 32 << 20
_ATTEMPTS = 3
_TRY_AGAIN = frozenset({429, 503})
_AT_FAULT = frozenset({400, 413, 422})
"""Statuses that blame the request; with any other the endpoint blames itself, or can't be told from a broken one."""
_EXTRA = "return_token_ids"


class NotServed(Exception):
    """The endpoint can't be reached, or turns the request away: nothing was computed."""


class Rejected(Exception):
    """The endpoint is well and finds fault with the request, such as a prompt longer than its context."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unusable(Exception):
    """Nobody can tell what was computed: no answer in time, one that can't be read, or a failure on the way to it."""


class ModelServer:
    """A client of the endpoint, which alone holds its key.

    Args:
        endpoint: the model server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.name = Server(endpoint.base_url, endpoint.socket, endpoint.is_local)
        """What telemetry calls it."""
        self._choices = ChoiceTokens()
        transport = httpx.AsyncHTTPTransport(
            uds=endpoint.socket, limits=httpx.Limits(max_connections=None, max_keepalive_connections=64)
        )
        self._key = endpoint.api_key.get_secret_value() if endpoint.api_key else ""
        self._secrets = [each for each in (self._key, *_secrets_in(endpoint.base_url)) if each]
        self._client = httpx.AsyncClient(
            transport=transport,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=endpoint.timeout_seconds,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, kind: Kind, body: dict[str, Any], turn: Turn | None) -> JsonValue:
        """Send one request on; one that the server is too busy for is sent again.

        Raises:
            NotServed: the endpoint is down, or won't serve it.
            Rejected: the request is at fault.
            Unusable: it did not answer in time, not in JSON, or failed while it worked.
        """
        try:
            labels: list[str] = body.get("structured_outputs", {}).get("choice", [])
            if not labels or not self._endpoint.is_vllm:
                return await self._send(kind, body, turn)
            tokens = await self._choices.single(body["model"], labels, self._complete)
            if tokens is None:
                return await self._send(kind, body, turn)
            return told(await self._send(kind, masked(body, tokens), turn), labels, tokens)
        except (TimeoutError, httpx.TimeoutException) as error:
            if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
                raise NotServed(self._late()) from error
            raise Unusable(self._late()) from error
        except httpx.ConnectError as error:
            raise NotServed(self._unreachable(error)) from error
        except httpx.HTTPError as error:
            raise Unusable(self._unreachable(error)) from error
        except ValueError as error:
            raise Unusable(self.unusable(error)) from error

    async def _complete(self, body: dict[str, Any]) -> JsonValue:
        """What the endpoint says to a completion, or nothing where it finds fault with it."""
        try:
            return await self._send(Kind.COMPLETION, body, None)
        except Rejected:
            return None

    async def _send(self, kind: Kind, body: dict[str, Any], turn: Turn | None) -> JsonValue:
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
                status, words = response.status_code, self._without_secrets(data.decode(errors="replace"))[:500]
                if status in _AT_FAULT:
                    raise Rejected(status, words)
                raise (NotServed if turned_away(status) else Unusable)(self.unusable(f"status {status}: {words}"))
            return parse_untrusted(bytes(data))
        raise AssertionError

    @property
    def _where(self) -> str:
        return self._endpoint.socket or without_secrets(self._endpoint.base_url)

    def _late(self) -> str:
        return f"The model server at {self._where} did not answer within {self._endpoint.timeout_seconds:g} s."

    def _unreachable(self, error: Exception) -> str:
        words = f"The model server at {self._where} can't be reached: {error or type(error).__name__}."
        return self._without_secrets(words)

    def unusable(self, error: Exception | str) -> str:
        """What to tell of an answer that can't be used; a provider that repeats its key is not repeated."""
        return self._without_secrets(f"The model server at {self._where} answered what can't be used: {error}.")

    def _without_secrets(self, words: str) -> str:
        for secret in self._secrets:
            words = words.replace(secret, "[key]")
        return words


def turned_away(status: int) -> bool:
    """Whether an answer of this status tells that nothing was computed; a server that failed may have."""
    return status < 500 or status == 503


def _secrets_in(url: str) -> list[str]:
    parts = urlsplit(url)
    return [each for each in (parts.password, *(value for _, value in parse_qsl(parts.query))) if each]
