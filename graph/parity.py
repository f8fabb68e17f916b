"""Whether the model server and the trainer mean the same: asked once of each pair, before anything is trained.

    parity = Parity(publisher, sandbox, base, rules.training, home, settings)
    await parity.check()        # seconds the first time, then a file is looked at

One sequence is scored by both, with the base model and with an adapter of the shape that will be trained; so a server
that can't hold its rank is found out, too.
"""

import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
from pydantic import JsonValue

from ..core import ArtifactStore, Home, ModelUnavailable, Settings, canonical_json, digest_json
from ..core.artifacts import write_durably
from ..nodes.context import TrainingBase
from ..safety.sandbox import Sandbox
from ..serving.policy import Endpoint
from ..training.attempt import default_limits
from ..training.job import TrainJob
from ..training.objectives import GroupRelative

if TYPE_CHECKING:
    from ..serving.adapters import AdapterPublisher

_PACKAGES = ("pawl-agents", "torch", "transformers", "peft")


class Parity:
    """The comparison of one server with the trainer.

    Args:
        publisher: brings adapters to the server.
        sandbox: runs the trainer.
        base: what training starts from.
        training: the campaign's overrides of a job's settings.
        home: keeps what was found of a server that was named; what was found of the local one is kept in the cache,
            since it is the same in every home.
        settings: where the cache is, and what the trainer may take.
    """

    def __init__(
        self,
        publisher: "AdapterPublisher",
        sandbox: Sandbox,
        base: TrainingBase,
        training: Mapping[str, JsonValue],
        home: Home,
        settings: Settings,
    ) -> None:
        self._publisher = publisher
        self._sandbox = sandbox
        self._verdicts = (settings.cache if publisher.endpoint.is_local else home.root) / "parity"
        self._base = base
        self._training = training
        self._limits = default_limits(settings.trainer_seconds, settings.threads)

    async def check(self, progress: Callable[[str], None] | None = None) -> None:
        """Return if the server can be trusted with what is trained on.

        Args:
            progress: is told that it takes a while, where it does.

        Raises:
            ConfigurationError: it can't: it means something else, holds no such adapter, or scores no prompts.
            ModelUnavailable: it can't be reached.
        """
        from ..serving.parity import Compared, check_parity, server_scores
        from ..training.scoring import trainer_scores

        endpoint, job = self._publisher.endpoint, self._job()
        compared = await self._compared(endpoint, job)
        note = self._verdicts / f"{digest_json(compared)[:32]}.json"
        if note.is_file():
            return
        if progress is not None:
            progress("Comparing the model server with the trainer (seconds, once)")
        with tempfile.TemporaryDirectory(prefix="pawl-parity-") as scratch:
            scores, files = await trainer_scores(job, self._sandbox, Path(scratch) / "trainer", self._limits)
            theirs = await server_scores(endpoint, endpoint.base_model, scores.tokens)
            found = {Compared.BASE: check_parity(endpoint, Compared.BASE, scores.base, theirs)}
            store = ArtifactStore(Path(scratch) / "artifacts")
            digest = store.put_tree(files)
            publisher = self._publisher.of(store)
            try:
                async with publisher.leased(digest):
                    theirs = await server_scores(endpoint, digest, scores.tokens)
            finally:
                await publisher.unload(digest)
            found[Compared.ADAPTER] = check_parity(endpoint, Compared.ADAPTER, scores.adapter, theirs)
        self._verdicts.mkdir(parents=True, exist_ok=True)
        nats: dict[str, JsonValue] = {what.name.lower(): each.model_dump() for what, each in found.items()}
        write_durably(note, canonical_json({"compared": compared, "found": nats}))

    def _job(self) -> TrainJob:
        """A job as the campaign's will be, but for what it learns from."""
        return TrainJob.model_validate(
            {
                "objective": GroupRelative(),
                **{name: value for name, value in self._training.items() if name != "loss"},
                "id": "parity",
                "base_model_dir": self._base.model_dir,
                "base_model_name": self._base.model_name,
                "threads": self._base.threads,
            }
        )

    async def _compared(self, endpoint: Endpoint, job: TrainJob) -> dict[str, JsonValue]:
        """All that decides what the two compute, as far as can be told from outside."""
        shape: dict[str, JsonValue] = {
            "rank": job.rank, "alpha": job.alpha, "layers": job.layers, "modules": job.modules.value,
            "precision": job.precision.value,
        }  # fmt: skip
        packages: dict[str, JsonValue] = {name: _version(name) for name in _PACKAGES}
        server = "local" if endpoint.is_local else await _described(endpoint)
        return {"server": server, "base": self._base.digest, "shape": shape, "packages": packages}


def fingerprint(model_dir: Path) -> str:
    """What tells one folder of weights from another without reading hundreds of gigabytes."""
    files = [path for path in sorted(model_dir.iterdir()) if path.suffix in (".json", ".safetensors")]
    return digest_json({path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files})


async def _described(endpoint: Endpoint) -> JsonValue:
    """What a server says of itself, without the times."""
    from ..serving.chat import openai_client

    try:
        async with openai_client(endpoint, retries=1) as client:
            listed = {each.id: each.model_extra or {} async for each in client.models.list()}
            root = str(client.base_url).rstrip("/").removesuffix("/v1")
            answer = await client.get(f"{root}/version", cast_to=httpx2.Response)
            told: JsonValue = answer.json()
    except Exception as error:
        raise ModelUnavailable(
            f"The model endpoint {endpoint.base_url} doesn't say what it is: {error}. To train on what it serves, Pawl "
            "needs a vLLM with adapters, as `pawl serve` starts it; or unset PAWL_MODEL_DIR."
        ) from error
    base = listed.get(endpoint.base_model, {})
    return {"url": endpoint.base_url, "version": told, "root": base.get("root"), "length": base.get("max_model_len")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
