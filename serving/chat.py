# pyright: reportUnknownMemberType=false
"""Clients of a model endpoint: the openai client, and LangChain's chat model with token ids kept.

client = openai_client(endpoint)
chat = policy_chat(endpoint, model=version.model, sampling=version.sampling, seed=7)
message = await chat.ainvoke("Which tile?")
message.response_metadata["token_ids"]
"""

from typing import Any

import httpx2
import openai
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import SecretStr

from ..core import Sampling
from ..safety.telemetry.model_calls import Server, model_call
from ..safety.telemetry.names import Operation
from .policy import Endpoint


def openai_client(endpoint: Endpoint, *, retries: int = 2, timeout: float | None = None) -> AsyncOpenAI:
    """A client of the endpoint; close it, or use it as a context manager."""
    return AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=_key(endpoint).get_secret_value(),
        http_client=_http(endpoint),
        max_retries=retries,
        timeout=timeout or endpoint.timeout_seconds,
    )


class PolicyChat(ChatOpenAI):
    """`ChatOpenAI` that keeps `token_ids` and `prompt_token_ids` in generation info and response metadata.

    The stock one drops them, and without them a trajectory can't be trained on.
    """

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        body = response if isinstance(response, dict) else response.model_dump(warnings=False)
        prompt = body.get("prompt_token_ids")
        for generation, choice in zip(result.generations, body["choices"], strict=True):
            kept = {"token_ids": choice.get("token_ids"), "prompt_token_ids": prompt}
            own = {"finish_reason": choice.get("finish_reason"), "logprobs": choice.get("logprobs")}
            generation.generation_info = {**(generation.generation_info or {}), **own, **kept}
        return result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with model_call(Operation.CHAT, self._told(messages), Server(str(self.openai_api_base))) as call:
            result = await super()._agenerate(messages, stop, run_manager, **kwargs)
            call.answered(_reply(result))
        return result

    def _told(self, messages: list[BaseMessage]) -> dict[str, Any]:
        """What telemetry is told of a call before it is made."""
        return {
            "model": self.model_name,
            "messages": [{"role": each.type, "content": each.text} for each in messages],
            "seed": self.seed,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }


def policy_chat(endpoint: Endpoint, model: str, sampling: Sampling, seed: int | None = None) -> PolicyChat:
    """A LangChain chat model of one version's policy, with log-probabilities and token ids."""
    arguments: dict[str, Any] = {
        "model": model,
        "base_url": endpoint.base_url,
        "api_key": _key(endpoint),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": seed,
        "logprobs": True,
        "timeout": endpoint.timeout_seconds,
        "disable_streaming": True,
        "use_responses_api": False,
        "http_async_client": _http(endpoint),
    }
    if (
        endpoint.is_local or endpoint.is_vllm or endpoint.socket
    ):  # vLLM's field; hosted providers refuse what they don't know
        arguments["extra_body"] = {"return_token_ids": True}
    if endpoint.socket:
        arguments["http_client"] = httpx2.Client(transport=httpx2.HTTPTransport(uds=endpoint.socket))
    return PolicyChat(**arguments)


def _reply(result: ChatResult) -> dict[str, Any]:
    """A result as the OpenAI completion that it came from, as far as telemetry goes."""
    output = result.llm_output or {}
    return {
        "id": output.get("id"),
        "model": output.get("model_name"),
        "usage": output.get("token_usage"),
        "choices": [
            {
                "finish_reason": (each.generation_info or {}).get("finish_reason"),
                "message": {"content": str(each.message.text)},
            }
            for each in result.generations
        ],
    }


def _key(endpoint: Endpoint) -> SecretStr:
    return endpoint.api_key or SecretStr("none")


def _http(endpoint: Endpoint) -> httpx2.AsyncClient:
    timeout = httpx2.Timeout(endpoint.timeout_seconds)
    limits = httpx2.Limits(max_connections=256, max_keepalive_connections=64)
    if endpoint.socket:
        return httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=endpoint.socket, limits=limits), timeout=timeout
        )
    # a proxy of the environment must not see, or lose, what goes to this machine
    return httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=not endpoint.is_local)
