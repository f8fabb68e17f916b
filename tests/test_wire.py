"""The wire's contract: what Pawl asks of a model server, be it the local one or vLLM.

By default it runs against the local server over a tiny model. PAWL_TEST_BASE_URL (with /v1) names another;
PAWL_TEST_API_KEY its key, PAWL_TEST_MODEL its model, PAWL_TEST_ADAPTER a LoRA folder that the server can read.
`pawl serve --vllm PATH` starts a vLLM as it must be; `make test-vllm` does so and runs this against it.
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from pydantic import SecretStr

from pawl.core import Sampling
from pawl.serving.adapters import serving_models
from pawl.serving.chat import openai_client, policy_chat
from pawl.serving.parity import LIMIT, difference
from pawl.serving.policy import Endpoint

from .model_fixtures import smollm2, tiny_adapters, tiny_home, tiny_model_dir, tiny_server

__all__ = ["smollm2", "tiny_adapters", "tiny_home", "tiny_model_dir", "tiny_server"]

IDS: dict[str, Any] = {"return_token_ids": True}


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    url = os.environ.get("PAWL_TEST_BASE_URL")
    if url is None:
        return request.getfixturevalue("tiny_server")
    key = os.environ.get("PAWL_TEST_API_KEY")
    bare = Endpoint(base_url=url, api_key=SecretStr(key) if key else None, base_model="", timeout_seconds=120)
    name = os.environ.get("PAWL_TEST_MODEL") or asyncio.run(serving_models(bare))[0]
    return bare.model_copy(update={"base_model": name})


@pytest.fixture(scope="session")
def adapter(request: pytest.FixtureRequest, endpoint: Endpoint) -> Path:
    if "PAWL_TEST_ADAPTER" in os.environ:
        return Path(os.environ["PAWL_TEST_ADAPTER"])
    if "PAWL_TEST_BASE_URL" in os.environ:
        pytest.skip("PAWL_TEST_ADAPTER names no LoRA folder for this server")
    return request.getfixturevalue("tiny_adapters")[0]


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[AsyncOpenAI]:
    async with openai_client(endpoint) as made:
        yield made


async def complete(client: AsyncOpenAI, model: str, prompt: Any, **options: Any) -> Any:
    extra = IDS | options.pop("extra", {})
    return await client.completions.create(model=model, prompt=prompt, logprobs=1, extra_body=extra, **options)


async def test_the_base_model_is_listed_with_its_length(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    listed = {model.id: model async for model in client.models.list()}
    assert endpoint.base_model in listed
    assert (listed[endpoint.base_model].model_extra or {})["max_model_len"] >= 512


async def test_a_completion_has_tokens_and_their_log_probabilities(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    reply = await complete(client, endpoint.base_model, "The capital of France is", max_tokens=7, seed=1)
    [choice] = reply.choices
    assert len(choice.token_ids) == len(choice.logprobs.token_logprobs) == len(choice.logprobs.tokens)
    assert reply.usage.completion_tokens == len(choice.token_ids) <= 7
    assert reply.usage.prompt_tokens == len(choice.prompt_token_ids)
    assert all(math.isfinite(p) and p <= 0 for p in choice.logprobs.token_logprobs)
    assert choice.finish_reason == ("length" if len(choice.token_ids) == 7 else "stop")


async def test_a_prompt_of_token_ids_is_the_same_prompt(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    text = await complete(client, endpoint.base_model, "One, two, three,", max_tokens=4, seed=2)
    ids = await complete(client, endpoint.base_model, text.choices[0].prompt_token_ids, max_tokens=4, seed=2)
    assert ids.choices[0].token_ids == text.choices[0].token_ids


async def test_the_seed_decides_the_answer(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    async def tokens(seed: int) -> list[int]:
        reply = await complete(client, endpoint.base_model, "Once upon a time", max_tokens=12, seed=seed)
        return reply.choices[0].token_ids

    first, again, other = [await tokens(seed) for seed in (1, 1, 2)]
    assert first == again != other


async def test_temperature_zero_takes_the_likeliest_token(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    replies = [await complete(client, endpoint.base_model, "2 + 2 =", max_tokens=3, temperature=0) for _ in range(2)]
    assert replies[0].choices[0].token_ids == replies[1].choices[0].token_ids
    for top, own in zip(
        replies[0].choices[0].logprobs.top_logprobs, replies[0].choices[0].logprobs.token_logprobs, strict=True
    ):
        assert max(top.values()) == pytest.approx(own, abs=1e-4)


async def test_a_choice_is_drawn_from_its_labels_alone_and_their_masses_add_up(
    client: AsyncOpenAI, endpoint: Endpoint
) -> None:
    """Labels of one character each have one tokenisation, so every server means the same distribution."""
    labels = ["A", "B", "C", "D"]
    replies = await asyncio.gather(
        *[
            complete(
                client,
                endpoint.base_model,
                "Answer with one letter: ",
                max_tokens=4,
                temperature=2.0,
                seed=seed,
                extra={"structured_outputs": {"choice": labels}},
            )
            for seed in range(64)
        ]
    )
    masses: dict[str, float] = {}
    for reply in replies:
        [choice] = reply.choices
        assert choice.text in labels
        assert choice.finish_reason == "stop"
        masses[choice.text] = math.exp(sum(choice.logprobs.token_logprobs))
    assert len(masses) > 1
    assert sum(masses.values()) <= 1 + 1e-3
    if len(masses) == len(labels):
        assert sum(masses.values()) == pytest.approx(1, abs=1e-3)


async def test_a_token_is_drawn_from_those_allowed_alone_and_their_masses_add_up(
    client: AsyncOpenAI, endpoint: Endpoint
) -> None:
    """How a choice among labels of one token each is asked for where a server would mask by a grammar."""
    labels = [" A", " B", " C"]
    told = await complete(client, endpoint.base_model, labels, max_tokens=1, extra={"add_special_tokens": False})
    tokens = [token for choice in told.choices for token in choice.prompt_token_ids]
    assert len(tokens) == 3
    replies = await asyncio.gather(
        *[
            complete(
                client,
                endpoint.base_model,
                "Answer with one letter:",
                max_tokens=1,
                temperature=2.0,
                seed=seed,
                extra={"allowed_token_ids": tokens},
            )
            for seed in range(64)
        ]
    )
    masses = {reply.choices[0].token_ids[0]: math.exp(reply.choices[0].logprobs.token_logprobs[0]) for reply in replies}
    assert len(masses) > 1
    assert set(masses) <= set(tokens)
    assert sum(masses.values()) <= 1 + 1e-3
    if len(masses) == len(tokens):
        assert sum(masses.values()) == pytest.approx(1, abs=1e-3)


async def test_a_single_label_is_certain(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    reply = await complete(
        client, endpoint.base_model, "Say:", max_tokens=8, extra={"structured_outputs": {"choice": ["yes"]}}
    )
    assert reply.choices[0].text == "yes"


async def test_scores_of_a_prompt_agree_with_what_was_drawn(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    """The parity check that a trainer makes before it trusts a server's behaviour log-probabilities."""
    drawn = (await complete(client, endpoint.base_model, "Rain falls on", max_tokens=8, seed=4, temperature=1)).choices[
        0
    ]
    again = await complete(
        client,
        endpoint.base_model,
        drawn.prompt_token_ids + drawn.token_ids,
        max_tokens=1,
        extra={"prompt_logprobs": 0},
    )
    given = again.choices[0].prompt_logprobs
    assert given[0] is None
    scores = [
        place[str(t)]["logprob"] for place, t in zip(given[-len(drawn.token_ids) :], drawn.token_ids, strict=True)
    ]
    assert difference(scores, drawn.logprobs.token_logprobs).mean <= LIMIT


async def test_several_prompts_and_several_answers_come_in_order(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    reply = await complete(client, endpoint.base_model, ["first", "second one"], n=2, max_tokens=3, seed=5)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    prompts = [tuple(choice.prompt_token_ids) for choice in reply.choices]
    assert prompts[0] == prompts[1] != prompts[2] == prompts[3]


async def test_a_stop_string_ends_the_text_before_it(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    long = (await complete(client, endpoint.base_model, "The list: 1, 2,", max_tokens=16, seed=6)).choices[0]
    stop = next(token for token in long.logprobs.tokens[3:] if token.strip() and token.isascii())
    short = (await complete(client, endpoint.base_model, "The list: 1, 2,", max_tokens=16, seed=6, stop=stop)).choices[
        0
    ]
    assert short.finish_reason == "stop"
    assert short.text == long.text[: long.text.index(stop)]


async def test_chat_answers_with_tokens_through_langchain(endpoint: Endpoint) -> None:
    chat = policy_chat(endpoint, endpoint.base_model, Sampling(max_tokens=6), seed=7).bind(extra_body=IDS)
    message = await chat.ainvoke([("system", "Be brief."), ("user", "Hello!")])
    told = message.response_metadata
    assert len(told["token_ids"]) == len(told["logprobs"]["content"]) <= 6
    assert len(told["prompt_token_ids"]) == message.usage_metadata["input_tokens"] > 6


async def test_an_adapter_is_loaded_answers_and_goes(client: AsyncOpenAI, endpoint: Endpoint, adapter: Path) -> None:
    name = "f" * 64

    async def post(path: str) -> httpx2.Response:
        return await client.post(path, cast_to=httpx2.Response, body={"lora_name": name, "lora_path": str(adapter)})

    async def scores(model: str) -> list[float]:
        reply = await complete(
            client, model, "Rain falls on the green hills", max_tokens=1, extra={"prompt_logprobs": 0}
        )
        choice = reply.choices[0]
        places = list(zip(choice.prompt_logprobs, choice.prompt_token_ids, strict=True))[1:]
        return [place[str(token)]["logprob"] for place, token in places]

    before = await scores(endpoint.base_model)
    assert (await post("/load_lora_adapter")).status_code == 200
    listed = {model.id: model.model_extra or {} async for model in client.models.list()}
    assert listed[name]["parent"] == endpoint.base_model
    assert max(abs(a - b) for a, b in zip(before, await scores(name), strict=True)) > 0.01
    assert await scores(endpoint.base_model) == pytest.approx(before, abs=0.02)
    assert (await post("/unload_lora_adapter")).status_code == 200
    with pytest.raises(openai.NotFoundError):
        await complete(client, name, "Hello", max_tokens=1)
    with pytest.raises(openai.NotFoundError):
        await post("/unload_lora_adapter")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "no-such-model"}, openai.NotFoundError),
        ({"temperature": -1.0}, openai.BadRequestError),
        ({"temperature": 2.5}, openai.BadRequestError),
        ({"top_p": 2.0}, openai.BadRequestError),
        ({"max_tokens": -3}, openai.BadRequestError),
        ({"prompt": "word " * 20_000}, openai.BadRequestError),
        ({"extra_body": {"structured_outputs": {"choice": []}}}, openai.BadRequestError),
        ({"max_tokens": 1, "extra_body": {"allowed_token_ids": []}}, openai.BadRequestError),
        ({"max_tokens": 1, "extra_body": {"allowed_token_ids": [10**8]}}, openai.BadRequestError),
    ],
)
async def test_bad_requests_are_told_so(
    client: AsyncOpenAI, endpoint: Endpoint, change: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        await client.completions.create(**({"model": endpoint.base_model, "prompt": "x", "max_tokens": 4} | change))
    assert caught.value.body["message"]


async def test_a_body_that_is_no_json_is_told_so(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.post("/completions", cast_to=httpx2.Response, content=b"{")
