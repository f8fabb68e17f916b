"""Promises of prices: the table's own, a user's, the hardware's; and nothing is ever counted without one."""

import json
import socket
from decimal import Decimal
from pathlib import Path

import pytest

from pawl.core import ConfigurationError, Settings, Usage
from pawl.safety.budget import Prices, prices_of
from pawl.safety.budget.prices import ASSUMED_CPU_USD_PER_HOUR, hardware_prices

OPENAI = "https://api.openai.com/v1"


def table(folder: Path, text: str) -> Path:
    path = folder / "prices.json"
    path.write_text(text)
    return path


def given(folder: Path, **models: object) -> Settings:
    return Settings(prices=table(folder, json.dumps({"models": models})), model_url="http://10.0.0.7/v1")


def test_a_known_model_costs_what_the_bundled_table_says_without_the_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a price was asked for over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    prices = prices_of(Settings(model_url=OPENAI), "gpt-4o")
    assert prices.cost(Usage(input_tokens=1_000, output_tokens=200)) == 4_500_000
    assert prices.version.startswith("genai-prices 0.")


def test_tiers_are_reckoned_call_by_call_and_bounds_take_the_dearest():
    prices = prices_of(Settings(model_url="https://api.anthropic.com/v1"), "claude-sonnet-4-5")
    below, above = Usage(input_tokens=100_000), Usage(input_tokens=300_000)
    assert prices.cost(below) * 3 < prices.cost(above)
    for usage in (below, above, Usage(output_tokens=1_000), Usage(input_tokens=200_001, output_tokens=7)):
        assert prices.cost(usage) <= prices.most(usage)


@pytest.mark.parametrize(("url", "model"), [(OPENAI, "no-such-model"), ("http://10.0.0.7:8000/v1", "gpt-4o")])
def test_a_model_without_a_known_price_is_refused_and_told_how_to_give_one(url: str, model: str):
    with pytest.raises(ConfigurationError, match=rf"'{model}'.*not known.*PAWL_PRICES.*usd_per_million_input"):
        prices_of(Settings(model_url=url), model)


def test_a_refusal_names_no_secrets_of_the_endpoint():
    with pytest.raises(ConfigurationError, match=r"at https://h:8443/v1 is") as raised:
        prices_of(Settings(model_url="https://user:SECRET-1@h:8443/v1?api-key=SECRET-2"), "mine")
    assert "SECRET" not in str(raised.value)


def test_a_users_price_counts_and_is_named_by_its_tables_digest(tmp_path: Path):
    price = {"usd_per_million_input": 0.15, "usd_per_million_output": 0.6}
    prices = prices_of(given(tmp_path, mine=price), "mine")
    assert prices.cost(Usage(input_tokens=1_000_000, output_tokens=1)) == 150_000_600
    assert "prices.json sha256:" in prices.version
    other = prices_of(given(tmp_path, mine={**price, "usd_per_million_input": 0.16}), "mine")
    assert other.version != prices.version


def test_a_model_behind_a_proxy_can_take_a_providers_price(tmp_path: Path):
    prices = prices_of(given(tmp_path, relay={"provider": "openai", "model": "gpt-4o"}), "relay")
    assert prices.cost(Usage(input_tokens=1_000, output_tokens=200)) == 4_500_000
    assert prices.version.startswith("genai-prices")
    assert "prices.json" in prices.version


@pytest.mark.parametrize(
    ("price", "what"),
    [
        ({"usd_per_million_input": 1}, "usd_per_million_output is missing"),
        ({"usd_per_million_input": 1, "usd_per_million_output": None}, "usd_per_million_output is missing"),
        ({"usd_per_million_input": -0.1, "usd_per_million_output": 1}, "usd_per_million_input is -0.1"),
        ({"usd_per_million_input": float("nan"), "usd_per_million_output": 1}, "usd_per_million_input is NaN"),
        ({"usd_per_million_input": float("inf"), "usd_per_million_output": 1}, "usd_per_million_input is Infinity"),
        ({"usd_per_million_input": "1", "usd_per_million_output": 1}, "usd_per_million_input is no number"),
        ({"usd_per_million_input": True, "usd_per_million_output": 1}, "usd_per_million_input is no number"),
        ({"usd_per_million_input": 1, "usd_per_million_output": 1, "usd_per_image": 1}, "unknown field usd_per_image"),
        (0.5, "not an object"),
    ],
)
def test_a_price_that_cannot_be_is_refused_with_its_model_and_file(tmp_path: Path, price: object, what: str):
    settings = given(tmp_path, fine={"usd_per_million_input": 0, "usd_per_million_output": 0}, wrong=price)
    for model in ("wrong", "fine"):  # a table with one bad entry is not believed in its others
        with pytest.raises(ConfigurationError) as caught:
            prices_of(settings, model)
        assert what in str(caught.value)
        assert "'wrong'" in str(caught.value)
        assert str(settings.prices) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"models": []}', '{"prices": {}}', "\x00"])
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str):
    with pytest.raises(ConfigurationError, match=r"prices\.json"):
        prices_of(Settings(prices=table(tmp_path, text)), "m")
    with pytest.raises(ConfigurationError, match="absent"):
        prices_of(Settings(prices=tmp_path / "absent.json"), "m")


def test_own_hardware_costs_its_rate_and_an_assumed_one_says_so():
    assumed = prices_of(Settings(), "local", own_hardware=True)
    assert assumed.cost(Usage(input_tokens=10**9, cpu_seconds=3600)) == int(ASSUMED_CPU_USD_PER_HOUR * 10**9)
    assert assumed.version == "own hardware; cpu $0.04/h assumed"
    said = prices_of(
        Settings(cpu_usd_per_hour=Decimal("0.072"), gpu_usd_per_second=Decimal("0.001")), "local", own_hardware=True
    )
    assert said.cost(Usage(cpu_seconds=0.5, gpu_seconds=2)) == 10_000 + 2_000_000
    assert said.version == "own hardware; cpu $0.072/h; gpu $0.001/s"


def test_the_seconds_of_a_gpu_are_not_free_for_want_of_a_rate():
    with pytest.raises(ConfigurationError, match=r"2 GPU-seconds.*PAWL_GPU_USD_PER_SECOND"):
        hardware_prices(Settings()).cost(Usage(gpu_seconds=2))


def test_less_than_a_nano_dollar_is_rounded_up():
    prices = Prices(None, Decimal("0.000001"), None, "test")
    assert prices.cost(Usage(cpu_seconds=0.001)) == 1
    assert prices.cost(Usage()) == 0


@pytest.mark.parametrize(
    ("provider", "model", "what"),
    [
        ("perplexity", "sonar", "requests_kcount"),
        ("perplexity", "sonar-deep-research", "output_reasoning_mtok|citation"),
    ],
)
def test_a_model_that_also_charges_for_what_is_not_reckoned_is_refused(
    tmp_path: Path, provider: str, model: str, what: str
):
    with pytest.raises(ConfigurationError, match=rf"{model}.*{what}.*PAWL_PRICES"):
        prices_of(given(tmp_path, mine={"provider": provider, "model": model}), "mine")
    own = {"usd_per_million_input": 50, "usd_per_million_output": 50}
    assert prices_of(given(tmp_path, **{model: own}), model).cost(Usage(input_tokens=1)) == 50_000


def test_a_price_that_depends_on_the_hour_is_taken_at_its_dearest_and_says_so(tmp_path: Path):
    prices = prices_of(given(tmp_path, mine={"provider": "deepseek", "model": "deepseek-chat"}), "mine")
    usage = Usage(input_tokens=10**6, output_tokens=10**6)
    assert prices.cost(usage) == prices.most(usage) == 1_370_000_000
    assert "dearest hour" in prices.version
