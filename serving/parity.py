"""Parity: whether a server means by a model, and by an adapter, what the trainer means by them.

    check_parity(endpoint, Compared.BASE, ours, await server_scores(endpoint, endpoint.base_model, tokens))

A policy gradient weighs each token by the ratio of the trainer's probability to the server's. Where the two compute
something else, by another base, precision, rank, scaling or mask, that ratio is wrong from the first step, silently.
"""

from collections.abc import Sequence
from enum import StrEnum
from math import fsum, isfinite
from typing import Any

import openai
from pydantic import BaseModel, ConfigDict

from ..core import ConfigurationError, ModelUnavailable
from .chat import openai_client
from .policy import Endpoint

LIMIT = 0.05
"""Largest mean absolute difference of log-probabilities, in nats. Between engines that agree it is the rounding of
their formats: below 0.01 for dense models, 0.025 seen for large mixtures of experts."""


class Compared(StrEnum):
    """What was scored."""

    BASE = "the base model"
    ADAPTER = "an adapter"


class Difference(BaseModel):
    """How far two scorings of one sequence are apart, in nats."""

    model_config = ConfigDict(frozen=True)

    mean: float
    largest: float
    tokens: int


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Compare log-probabilities token by token.

    Raises:
        ConfigurationError: one has more tokens than the other, or a value is not finite.
    """
    if len(ours) != len(theirs) or not ours or not all(map(isfinite, (*ours, *theirs))):
        raise ConfigurationError(
            f"The trainer scored {len(ours)} tokens and the server {len(theirs)}, or a score is not finite: expected "
            "as many finite log-probabilities from both."
        )
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    return Difference(mean=fsum(apart) / len(apart), largest=max(apart), tokens=len(apart))


def check_parity(endpoint: Endpoint, what: Compared, ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return the difference if the server can be trusted with rollouts to train on.

    Raises:
        ConfigurationError: the mean difference is above `LIMIT`.
    """
    found = difference(ours, theirs)
    if not found.mean <= LIMIT:
        advice = {
            Compared.BASE: "See that PAWL_MODEL_DIR holds the very weights that it serves, and that it isn't quantised",
            Compared.ADAPTER: "See that it serves LoRA on all trained modules, scaled by alpha / rank",
        }[what]
        raise ConfigurationError(
            f"The model server at {endpoint.socket or endpoint.base_url} and the trainer disagree about {what.value}: "
            f"their log-probabilities of one sequence of {found.tokens + 1} tokens differ by {found.mean:.3f} nats on "
            f"average and {found.largest:.2f} at most, where {LIMIT} on average is allowed. What is learnt from its "
            f"rollouts would be wrong. {advice}; or unset PAWL_MODEL_DIR to run without the weights lever."
        )
    return found


async def server_scores(endpoint: Endpoint, model: str, tokens: Sequence[int]) -> list[float]:
    """Log-probabilities, by the server, of each token but the first, given those before it.

    Args:
        endpoint: the server; it must know vLLM's `prompt_logprobs`.
        model: the base model's name there, or an adapter's.
        tokens: ids.

    Raises:
        ConfigurationError: it doesn't tell log-probabilities of prompts.
        ModelUnavailable: it can't be reached or fails.
    """
    where = endpoint.socket or endpoint.base_url
    try:
        async with openai_client(endpoint) as client:
            reply: Any = await client.completions.create(
                model=model, prompt=list(tokens), max_tokens=1, temperature=1.0, extra_body={"prompt_logprobs": 0}
            )
    except openai.APIConnectionError as error:
        raise ModelUnavailable(f"The model endpoint {where} can't be reached: {error}.") from error
    except openai.APIStatusError as error:
        if error.status_code >= 500:
            raise ModelUnavailable(f"The model endpoint {where} fails: {error.message[:300]}") from error
        raise ConfigurationError(f"{where} scores no prompt: {error.message[:300]}") from error
    try:
        places = reply.choices[0].prompt_logprobs
        return [float(place[str(token)]["logprob"]) for place, token in zip(places[1:], tokens[1:], strict=True)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The model endpoint {where} tells no log-probabilities of a prompt's tokens, which a trainer needs to be "
            "sure of it: expected vLLM's `prompt_logprobs`. Run without the weights lever, or serve by `pawl serve`."
        ) from error
