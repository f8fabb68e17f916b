"""What a campaign takes before it is started: parameters, memory a device, tokens, GPU-hours, dollars.

    plan = make_plan(read_plan(Path("configs/gpt-oss-120b.yaml")))
    plan.fits, plan.problems, plan.gpu_hours, plan.dollars

Nothing here is measured: memory and times are estimated from the model's shape and from the assumptions that the
config states, with their sources.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from ..core import ConfigurationError
from ..serving.vllm import RANKS
from .job import Modules, TrainJob
from .shapes import ModelShape

GB = 10**9

TRAINED = ("gpt_oss", "llama", "mistral", "qwen2", "qwen3")
"""Model types that the policy-gradient loop knows; `base_model.ARCHITECTURES`, which would load torch."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Device(_Frozen):
    """One accelerator."""

    name: str
    memory_gb: float = Field(gt=0)
    peak_tflops: float = Field(gt=0)
    """Dense bfloat16."""
    source: str


class Placement(_Frozen):
    """Which devices do what; how many train is told by the job, as its processes times the devices of each."""

    devices: int = Field(ge=1)
    serving: int = Field(ge=1)
    tensor_parallel: int = Field(default=1, ge=1)
    """Devices of one replica of the server."""
    alternating: bool = False
    """Whether trainer and server take turns on the same devices; the server is stopped meanwhile."""

    @model_validator(mode="after")
    def _whole_replicas(self) -> "Placement":
        if self.serving % self.tensor_parallel:
            raise ValueError(f"{self.serving} serving devices don't make replicas of {self.tensor_parallel}")
        return self


class Server(_Frozen):
    """The server's settings, as far as memory asks."""

    max_model_len: int = Field(ge=1)
    staleness: int = Field(ge=0)
    """Versions that a rollout may lag behind; the server then holds two adapters more."""
    memory_share: float = Field(default=0.9, gt=0, le=1)
    """Of a device's memory that vLLM takes (`--gpu-memory-utilization`)."""


class Races(_Frozen):
    """Items of the sealed races; each is run by live and by candidate."""

    alpha: float = Field(gt=0, lt=1)
    holdout: int = Field(ge=0)
    regression: int = Field(ge=0)
    adversarial: int = Field(ge=0)
    looks: int = Field(ge=1)
    guard_items: int = Field(ge=0)


class Campaign(_Frozen):
    """How much a campaign samples; the fields are those of a campaign's rules."""

    rounds: int = Field(ge=1)
    items: int = Field(ge=1)
    attempts: int = Field(ge=1)
    replay: int = Field(default=0, ge=0)
    shadow_items: int = Field(ge=0)
    monitor_items: int = Field(ge=0)
    races: Races

    @property
    def learned(self) -> int:
        """Rollouts that training may learn from: live's, of all rounds."""
        return self.rounds * self.items * self.attempts

    @property
    def raced(self) -> int:
        """Rollouts that only compare: target and sealed races, shadow and monitor, were every candidate to pass.

        Other tasks that are live in the home, and their guard races, are left out.
        """
        sealed = self.races.looks * (self.races.holdout + self.races.regression) + self.races.adversarial
        return self.rounds * (self.items * self.attempts + 2 * (sealed + self.shadow_items + self.monitor_items))


class Assumptions(_Frozen):
    """What is assumed, and why; nothing of it was measured here."""

    rollout_tokens: int = Field(ge=1)
    """Mean tokens of a rollout, prompt and answer."""
    sampling_low: float = Field(gt=0)
    sampling_high: float = Field(gt=0)
    """Tokens a second and device that the server gives."""
    training_share: float = Field(gt=0, le=1)
    """Of the peak that training reaches."""
    flops_a_parameter: float = Field(default=6.0, gt=0)
    """Operations a token and active parameter: 2 forward, 2 for the gradient of the activations, 2 for doing the
    forward again (checkpoints by layer); an adapter's own are left out."""
    busy: float = Field(gt=0, le=1)
    """Share of the paid hours in which the campaign samples or trains; it also loads models, checks and waits."""
    logits_tokens: int = Field(default=512, ge=1)
    """Decisions whose logits over the whole vocabulary are held at once; `choices.ROWS`."""
    training_reserve_gb: float = Field(default=3.0, ge=0)
    serving_reserve_gb: float = Field(default=5.0, ge=0)
    """For the driver's context, communication, graphs and fragments."""
    source: str


class Price(_Frozen):
    """What an hour of one device costs somewhere."""

    provider: str
    usd_per_hour: float = Field(gt=0)
    source: str
    date: datetime.date
    """When it was so."""


class Option(_Frozen):
    """The same campaign with the feed-forward maps of some layers in the adapter too."""

    name: str
    mlp_layers: int = Field(ge=0)


class PlanConfig(_Frozen):
    """One file of `configs/`."""

    name: str
    task: str
    notes: list[str] = []
    """What to know before starting it."""
    model: ModelShape
    job: dict[str, JsonValue]
    """Fields of the training job; a campaign takes them as `rules.training`."""
    device: Device
    placement: Placement
    server: Server
    campaign: Campaign
    assumptions: Assumptions
    prices: list[Price] = Field(min_length=1)
    options: list[Option] = []

    @property
    def train_job(self) -> TrainJob:
        """The job's settings; id, base and objective stand for those of a campaign."""
        given = {"id": "plan", "base_model_dir": self.model.name, "base_model_name": self.model.name}
        return TrainJob.model_validate({**given, "objective": "group_relative", **self.job})

    @property
    def training(self) -> int:
        """Devices that train."""
        return self.train_job.processes * self.train_job.devices


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    parts: Mapping[str, float]
    limit: float
    """What may be used of it."""

    @property
    def used(self) -> float:
        """All parts together."""
        return math.fsum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether it is no more than the limit."""
        return self.used <= self.limit


@dataclass(frozen=True)
class Variant:
    """An adapter and what it takes."""

    name: str
    adapter_parameters: int
    slots: int
    """Adapters that the server holds: allowed staleness + 2."""
    training: Memory
    serving: Memory
    cache_tokens: int
    """Room for so many tokens in the caches of one replica."""
    problems: Sequence[str]
    """Why it doesn't fit; empty where it does."""

    @property
    def adapter_bytes(self) -> int:
        """A version as it is published, in bfloat16."""
        return 2 * self.adapter_parameters


@dataclass(frozen=True)
class Plan:
    """A campaign's needs; every figure is estimated."""

    config: PlanConfig
    variant: Variant
    options: Sequence[Variant]
    tokens: int
    trained_tokens: int
    sampling_hours: tuple[float, float]
    """GPU-hours of sampling, at the higher and at the lower rate."""
    training_hours: float
    """GPU-hours of training, of the device that works: those of a process work one after the other."""
    wall_hours: tuple[float, float]
    """Hours in which the campaign samples, then trains, in every round."""
    gpu_hours: tuple[float, float]
    """Paid ones: of all devices, at work or waiting for the others."""
    dollars: tuple[float, float]
    """Fewest hours at the lowest price, most at the highest."""

    @property
    def problems(self) -> Sequence[str]:
        """Why the campaign can't run as it is."""
        return self.variant.problems

    @property
    def missing(self) -> Sequence[str]:
        """What Pawl's own loop can't do yet, and this campaign asks for."""
        shape, job = self.config.model, self.config.train_job
        found: list[str] = []
        if shape.type not in TRAINED:
            found.append(f"the policy-gradient loop knows the model types {', '.join(TRAINED)}, not {shape.type}")
        if job.devices > 1:
            found.append(
                f"one of a process's {job.devices} devices works at a time: layers are spread, and nothing is sharded "
                "or pipelined; the hours reckon with it"
            )
        if shape.experts and (self.config.options or job.modules is Modules.ALL):
            found.append(
                "adapters on experts are neither trained nor served: the options say only what they would cost"
            )
        if self.config.placement.alternating:
            found.append("taking turns on the devices: the server must be stopped and started by hand around a job")
        return found

    @property
    def host_bytes(self) -> int:
        """Memory of the machine that the trainer's processes load their weights through."""
        return self.config.train_job.processes * 2 * self.config.model.parameters

    @property
    def fits(self) -> bool:
        """Whether it can, as far as memory goes."""
        return not self.problems


def read_plan(path: Path) -> PlanConfig:
    """Read a config.

    Raises:
        ConfigurationError: it can't be read, or isn't one.
    """
    try:
        config = PlanConfig.model_validate(yaml.safe_load(path.read_text()))
        _ = config.train_job
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{path} can't be read: {error}. Expected a YAML file like those in configs/."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "config"
        raise ConfigurationError(
            f"{path}: {where}: {first['msg']} ({error.error_count()} such). Compare it with those in configs/."
        ) from error
    return config


def make_plan(config: PlanConfig) -> Plan:
    """Work a plan out."""
    shape, job, assumed = config.model, config.train_job, config.assumptions
    layers = min(job.layers, shape.layers)
    mlp = layers if job.modules is Modules.ALL else 0
    learned = config.campaign.learned * assumed.rollout_tokens
    tokens = learned + config.campaign.raced * assumed.rollout_tokens
    replayed = config.campaign.rounds * config.campaign.replay * assumed.rollout_tokens
    trained = (learned + replayed) * job.epochs
    sampling = (tokens / assumed.sampling_high / 3600, tokens / assumed.sampling_low / 3600)
    work = assumed.flops_a_parameter * shape.active * trained
    training = work / (assumed.training_share * config.device.peak_tflops * 1e12) / 3600
    place = config.placement
    fewest, most = (hours / place.serving + training / job.processes for hours in sampling)
    hours = (place.devices * fewest / assumed.busy, place.devices * most / assumed.busy)
    prices = [price.usd_per_hour for price in config.prices]
    return Plan(
        config=config,
        variant=_variant(config, "as configured", layers, mlp),
        options=[_variant(config, option.name, layers, option.mlp_layers) for option in config.options],
        tokens=tokens,
        trained_tokens=trained,
        sampling_hours=sampling,
        training_hours=training,
        wall_hours=(fewest, most),
        gpu_hours=hours,
        dollars=(hours[0] * min(prices), hours[1] * max(prices)),
    )


def _variant(config: PlanConfig, name: str, attention_layers: int, mlp_layers: int) -> Variant:
    shape, job = config.model, config.train_job
    attention, mlp = shape.attention_lora(job.rank, attention_layers), shape.mlp_lora(job.rank, mlp_layers)
    adapter = attention + mlp
    slots = config.server.staleness + 2
    training = _training_memory(config, (attention, attention_layers), (mlp, mlp_layers))
    serving, cache = _serving_memory(config, adapter, slots)
    place, problems = config.placement, list[str]()
    used = max(config.training, place.serving) if place.alternating else config.training + place.serving
    if used > place.devices:
        problems.append(
            f"{config.training} devices for training and {place.serving} for serving: there are {place.devices}"
        )
    if mlp_layers > shape.layers:
        problems.append(f"the adapter is to be on {mlp_layers} layers, the model has {shape.layers}")
    if job.rank > max(RANKS):
        problems.append(f"rank {job.rank} is more than vLLM serves: {max(RANKS)}")
    if not training.fits:
        problems.append(
            f"training takes {training.used / GB:.1f} GB a device, of {training.limit / GB:.1f}: spread over "
            "more devices, adapt fewer layers, or pack fewer tokens"
        )
    if not serving.fits:
        problems.append(
            f"serving takes {serving.used / GB:.1f} GB a device before any cache, of {serving.limit / GB:.1f}: share "
            "the model among more devices, hold fewer adapters, or adapt fewer layers"
        )
    elif cache < config.server.max_model_len:
        problems.append(
            f"the cache holds {cache:,} tokens, less than one sequence of {config.server.max_model_len:,}: share the "
            "model among more devices, or allow shorter sequences"
        )
    return Variant(name, adapter, slots, training, serving, cache, problems)


def _training_memory(config: PlanConfig, attention: tuple[int, int], mlp: tuple[int, int]) -> Memory:
    """The device that has most: the last, of equally many layers, with the output layer and what is adapted.

    Args:
        config: of the plan.
        attention: parameters of the adapter on attention, and on how many of the last layers it is.
        mlp: the same of the feed-forward maps.

    An adapter takes 20 bytes a parameter: the float32 master, its gradient and Adam's two, and what the passes use with
    its gradient. Attention holds queries, keys and values as wide as all heads, with and without their padding.
    """
    shape, job, assumed = config.model, config.train_job, config.assumptions
    tokens, here = job.pack_tokens, math.ceil(shape.layers / job.devices)
    ends = 1 if job.devices > 1 or shape.tied else 2
    wide = (shape.active_experts if shape.experts else 1) * (4 * shape.ffn + shape.hidden)
    a_layer = 4 * shape.hidden + 6 * shape.query + 2 * shape.kv + wide
    learning = min(here, attention[1])
    adapter = sum(count * min(here, layers) / layers for count, layers in (attention, mlp) if layers)
    parts = {
        "weights, bfloat16": 2 * (here * shape.layer + ends * shape.vocabulary * shape.hidden),
        "adapter, gradients, Adam": 20 * adapter,
        "hidden states at each layer": 2 * tokens * shape.hidden * learning,
        "activations and gradients": 4 * tokens * a_layer * (1 if job.recompute else learning),
        "masks and a kernel's copies": 4 * 2 * tokens**2,
        "logits and their gradients": 24 * min(tokens, assumed.logits_tokens) * shape.vocabulary,
        "reserve": assumed.training_reserve_gb * GB,
    }
    return Memory(parts, config.device.memory_gb * GB)


def _serving_memory(config: PlanConfig, adapter: int, slots: int) -> tuple[Memory, int]:
    """A device of a replica before its cache, and how many tokens the replica's cache then holds.

    vLLM may shard half of an adapter; it is counted whole on every device.
    """
    shape, share = config.model, config.placement.tensor_parallel
    weights = shape.served_gb * GB if shape.served_gb is not None else 2 * shape.parameters
    parts = {
        "weights, as served": weights / share,
        f"{slots} adapters, bfloat16": slots * 2 * adapter,
        "reserve": config.assumptions.serving_reserve_gb * GB,
    }
    memory = Memory(parts, config.server.memory_share * config.device.memory_gb * GB)
    return memory, max(0, int((memory.limit - memory.used) * share / shape.kv_bytes))
