"""Prices: money for usage, each amount with the version of the table that it was reckoned by.

    prices = prices_of(settings, model="gpt-4o-mini")     # the table that genai-prices brings, never the network
    prices.cost(usage), prices.version                    # nano-dollars, "genai-prices 0.2.3; cpu $0.04/h assumed"

A model that no table knows is refused, unless a price is given: in a JSON file that `PAWL_PRICES` names,

    {"models": {"my-model": {"usd_per_million_input": 0.15, "usd_per_million_output": 0.6},
                "behind-a-proxy": {"provider": "openai", "model": "gpt-4o-mini"}}}

where zeros say that tokens are free, as they are on hardware of one's own. That is priced by rate, on top.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from ...core import ConfigurationError, Settings, Usage
from ...core.urls import without_secrets
from .money import NANO

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

ASSUMED_CPU_USD_PER_HOUR = Decimal("0.04")
"""An assumption, not a measurement: about what a core of a rented general-purpose machine costs."""

_PER_MILLION = 10**6
_RECKONED = ("input_mtok", "output_mtok")
_NEVER_ASKED = re.compile(r"^cache_|audio|image|video|_searches_kcount$")
"""Components of a price that a call of text doesn't meet, or that only make it cheaper."""
_NUMBERS = ("usd_per_million_input", "usd_per_million_output")


@dataclass(frozen=True)
class TokenPrice:
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal
    most_input: Decimal
    """The dearest tier's, for bounds."""
    most_output: Decimal
    table: "ModelPrice | None" = None
    """The table's own reckoning, where tiers make it more than two products."""

    def cost(self, usage: Usage) -> Decimal:
        """US dollars of one call."""
        if self.table is not None:
            from genai_prices import Usage as Tokens

            return self.table.calc_price(Tokens(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens))[
                "total_price"
            ]
        return (usage.input_tokens * self.input + usage.output_tokens * self.output) / _PER_MILLION

    def most(self, usage: Usage) -> Decimal:
        """US dollars that a call of at most so many tokens can cost."""
        return (usage.input_tokens * self.most_input + usage.output_tokens * self.most_output) / _PER_MILLION


@dataclass(frozen=True)
class Prices:
    """What usage costs: tokens by one model's price, hardware by rate."""

    tokens: TokenPrice | None
    """None where no model's price is known: usage with tokens is then refused."""
    cpu_usd_per_hour: Decimal
    gpu_usd_per_second: Decimal | None
    version: str
    """Names the table and the rates; stored with every amount."""

    def cost(self, usage: Usage) -> int:
        """Nano-dollars of what one call or step took, rounded up.

        Raises:
            ConfigurationError: it took tokens, or seconds of a GPU, whose price nobody gave.
        """
        return self._nano(usage, self.tokens.cost(usage) if usage.tokens and self.tokens else Decimal(0))

    def most(self, usage: Usage) -> int:
        """Nano-dollars that it can cost at the most, given upper bounds."""
        return self._nano(usage, self.tokens.most(usage) if usage.tokens and self.tokens else Decimal(0))

    def _nano(self, usage: Usage, tokens: Decimal) -> int:
        if usage.tokens and self.tokens is None:
            raise ConfigurationError(
                f"{usage.tokens} tokens were to be counted without a price. Give one in a file that PAWL_PRICES names."
            )
        usd = tokens
        if usage.cpu_seconds:
            usd += Decimal(str(usage.cpu_seconds)) * self.cpu_usd_per_hour / 3600
        if usage.gpu_seconds:
            if self.gpu_usd_per_second is None:
                raise ConfigurationError(
                    f"{usage.gpu_seconds:g} GPU-seconds were to be counted without a price. Set "
                    "PAWL_GPU_USD_PER_SECOND to what a second of one of your GPUs costs (0 if it is free)."
                )
            usd += Decimal(str(usage.gpu_seconds)) * self.gpu_usd_per_second
        return math.ceil(usd * NANO)


def prices_of(settings: Settings, model: str, *, own_hardware: bool = False) -> Prices:
    """The prices of one model at one endpoint.

    Args:
        settings: the endpoint's URL, the user's own table, the rates of hardware.
        model: as the endpoint calls it.
        own_hardware: whether the model runs on hardware of one's own: its tokens are then free, its time is not.

    Raises:
        ConfigurationError: nobody knows the model's price, or a table has one that is missing, negative or no number.
    """
    given, source = _own_table(settings.prices)
    if model in given:
        tokens, table = _given(model, given[model], source)
    elif own_hardware:
        tokens, table = _flat(Decimal(0), Decimal(0)), "own hardware"
    else:
        tokens, table = _known(model, None, settings.model_url)
    return _with_rates(settings, tokens, table)


def hardware_prices(settings: Settings | None = None) -> Prices:
    """Prices without a model: hardware alone."""
    return _with_rates(settings or Settings(), None, "no model")


def _with_rates(settings: Settings, tokens: TokenPrice | None, table: str) -> Prices:
    cpu, gpu = settings.cpu_usd_per_hour, settings.gpu_usd_per_second
    rate = f"cpu ${cpu}/h" if cpu is not None else f"cpu ${ASSUMED_CPU_USD_PER_HOUR}/h assumed"
    return Prices(
        tokens=tokens,
        cpu_usd_per_hour=ASSUMED_CPU_USD_PER_HOUR if cpu is None else cpu,
        gpu_usd_per_second=gpu,
        version="; ".join([table, rate, *([f"gpu ${gpu}/s"] if gpu is not None else [])]),
    )


def _flat(input_: Decimal, output: Decimal) -> TokenPrice:
    return TokenPrice(input=input_, output=output, most_input=input_, most_output=output)


def _own_table(path: Path | None) -> tuple[Mapping[str, Any], str]:
    """The user's table and its version; every entry is checked, also those that nobody asks for."""
    if path is None:
        return {}, ""
    try:
        data = path.read_bytes()
        read = json.loads(data, parse_float=Decimal, parse_constant=Decimal)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The price table {path} can't be read as JSON: {error}.") from error
    models = cast(dict[str, Any], read).get("models") if isinstance(read, dict) else None
    if not isinstance(models, dict):
        raise ConfigurationError(f'The price table {path} has no "models": expected {{"models": {{NAME: PRICE}}}}.')
    table = cast(dict[str, Any], models)
    source = f"{path.name} sha256:{hashlib.sha256(data).hexdigest()[:12]}"
    for model, entry in table.items():
        _check(model, entry, path)
    return table, source


def _check(model: str, entry: Any, path: Path) -> None:
    def refuse(what: str) -> NoReturn:
        raise ConfigurationError(
            f"The price of {model!r} in {path} can't be used: {what}. Expected {' and '.join(_NUMBERS)}, each a number "
            'of at least 0, or {"provider": NAME, "model": NAME}.'
        )

    if not isinstance(entry, dict):
        refuse("it is not an object")
    fields = cast(dict[str, Any], entry)
    if "provider" in fields:
        return
    unknown = sorted(set(fields) - set(_NUMBERS))
    if unknown:
        refuse(f"it has the unknown field {unknown[0]}")
    for name in _NUMBERS:
        value = fields.get(name)
        if value is None or isinstance(value, bool) or not isinstance(value, int | Decimal):
            refuse(f"{name} is missing" if value is None else f"{name} is no number")
        try:
            fine = Decimal(value).is_finite() and value >= 0
        except InvalidOperation:
            fine = False
        if not fine:
            refuse(f"{name} is {value}")


def _given(model: str, entry: Mapping[str, Any], source: str) -> tuple[TokenPrice, str]:
    if "provider" in entry:
        tokens, table = _known(str(entry.get("model", model)), str(entry["provider"]), None)
        return tokens, f"{table} by {source}"
    return _flat(*(Decimal(entry[name]) for name in _NUMBERS)), source


def _known(model: str, provider: str | None, url: str | None) -> tuple[TokenPrice, str]:
    """The price that genai-prices has for a model of a provider, who is told by the endpoint's URL."""
    import genai_prices
    from genai_prices.types import TimeOfDateConstraint

    table = f"genai-prices {genai_prices.__version__}"
    unpriced = genai_prices.Usage(input_tokens=0, output_tokens=0)
    address = without_secrets(url or "")
    where = {"provider_id": provider} if provider is not None else {"provider_api_url": address}
    try:
        found = genai_prices.calc_price(unpriced, model, **cast(Any, where))
    except LookupError as error:
        raise ConfigurationError(
            f"The price of the model {model!r} at {provider or address} is not known ({table}: {error}), so that what "
            "it costs could not be counted. Give it in a JSON file and name that by PAWL_PRICES: "
            f'{{"models": {{"{model}": {{"usd_per_million_input": 0.15, "usd_per_million_output": 0.6}}}}}}; '
            "zeros, where it is free. Where it runs on GPUs of your own, set PAWL_GPUS instead."
        ) from error
    hourly = isinstance(found.model.prices, list) and any(
        isinstance(each.constraint, TimeOfDateConstraint) for each in found.model.prices
    )
    if hourly and isinstance(found.model.prices, list):  # which hour a call is billed by nobody tells us: the dearest
        tables, table = [each.prices for each in found.model.prices], f"{table} at its dearest hour"
    else:
        tables = [found.model_price]
    rates = {name: [rate for each in tables for rate in _rates(model, each, name, table)] for name in _RECKONED}
    for each in tables:
        _refuse_unreckoned(model, each, table)
    most = [max(rates[name]) for name in _RECKONED]
    if hourly:
        return _flat(*most), table
    return (
        TokenPrice(
            input=rates["input_mtok"][0],
            output=rates["output_mtok"][0],
            most_input=most[0],
            most_output=most[1],
            table=tables[0] if any(len(tiers) > 1 for tiers in rates.values()) else None,
        ),
        table,
    )


def _rates(model: str, price: "ModelPrice", name: str, table: str) -> list[Decimal]:
    """What a component costs, in each of its tiers."""
    value = getattr(price, name, None)
    tiers = (
        [value] if isinstance(value, Decimal) else [value.base, *(tier.price for tier in value.tiers)] if value else []
    )
    if not tiers or not all(each.is_finite() and each >= 0 for each in tiers):
        raise ConfigurationError(
            f"The price of the model {model!r} in {table} can't be used: {name} is {value!r}. "
            "Give one in a JSON file and name that by PAWL_PRICES."
        )
    return tiers


def _refuse_unreckoned(model: str, price: "ModelPrice", table: str) -> None:
    """Return if tokens are all that a call of text is charged for."""
    for name, value in vars(price).items():
        if value and not name.startswith("_") and name not in _RECKONED and not _NEVER_ASKED.search(name):
            raise ConfigurationError(
                f"The model {model!r} also costs {name} ({value} US dollars) by {table}, which is not reckoned here, "
                "so that its calls would cost more than is counted. Give a price that covers it, in dollars per "
                "million tokens, in a JSON file and name that by PAWL_PRICES."
            )
