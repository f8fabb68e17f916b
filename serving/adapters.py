"""What an endpoint serves, and adapters published to it under their digests.

    await check_endpoint(endpoint)
    publisher = AdapterPublisher(endpoint, store, home.served(endpoint.base_url))
    async with publisher.leased(version.adapter):
        ...     # the server answers to its digest as a model's name

A name is the digest of the bytes behind it, so a name is never loaded twice with other bytes. The folder must be
readable for the server: on the same machine, or on a disk that both see.

Files are written apart and renamed. What nobody leases is unloaded when its slot is needed, the longest unused first;
its files stay until the publication after, since a server may still read them. Where everything is leased, more is
loaded than there are slots: vLLM then swaps them, from the files.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai

from ..core import ArtifactDamaged, ArtifactStore, ConfigurationError, ModelUnavailable
from ..core.digest import digest_tree
from .chat import openai_client
from .leases import AdapterLeases
from .policy import Endpoint

CHECK_SECONDS = 20.0
SLOTS = 4
"""Adapters that a server keeps by default: of two steps' staleness, the current one, and one that is loaded."""


async def serving_models(endpoint: Endpoint) -> list[str]:
    """Names that the endpoint answers to: the base model and the adapters loaded.

    Raises:
        As `model_owners`.
    """
    return list(await model_owners(endpoint))


async def model_owners(endpoint: Endpoint) -> dict[str, str]:
    """Names that the endpoint answers to, and who it says owns each: vLLM says `vllm`.

    Raises:
        ModelUnavailable: it is down, too slow, refuses the key, or doesn't answer as the OpenAI API does.
    """
    where = endpoint.socket or endpoint.base_url
    try:
        async with openai_client(endpoint, retries=1, timeout=min(CHECK_SECONDS, endpoint.timeout_seconds)) as client:
            response = await client.get("/models", cast_to=httpx2.Response)
            body: Any = response.json()
            return {str(entry["id"]): str(entry.get("owned_by", "")) for entry in body["data"]}
    except openai.APITimeoutError as error:
        raise ModelUnavailable(
            f"The model endpoint {where} gave no answer within {CHECK_SECONDS:.0f} s. Is it still loading its model?"
        ) from error
    except openai.APIConnectionError as error:
        raise ModelUnavailable(
            f"The model endpoint {where} can't be reached: {error.__cause__ or error}. Start it, or name another."
        ) from error
    except openai.APIStatusError as error:
        hint = "Check PAWL_MODEL_API_KEY." if error.status_code in (401, 403) else "Does the URL end in /v1?"
        raise ModelUnavailable(f"The model endpoint {where} answers {error.status_code} to /models. {hint}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(
            f"The model endpoint {where} answers, but not as the OpenAI API does: /models gave no list of models. "
            "Does the URL name an OpenAI-compatible server, with /v1 at its end?"
        ) from error


async def check_endpoint(endpoint: Endpoint) -> None:
    """Make sure that the endpoint is up and serves its base model.

    Raises:
        ModelUnavailable: it isn't, with what to do.
    """
    served = await serving_models(endpoint)
    if endpoint.base_model not in served:
        listed = ", ".join(sorted(served)[:8]) or "nothing"
        raise ModelUnavailable(
            f"The model endpoint {endpoint.socket or endpoint.base_url} doesn't serve {endpoint.base_model!r}; "
            f"it serves {listed}. Choose one with --model."
        )


class AdapterPublisher:
    """Brings adapters from the artefact store to one endpoint.

    Args:
        endpoint: the local server, or a vLLM started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True;
            may be set anew when the server was started again.
        store: where the adapters' file trees are.
        folder: where they are checked out, one folder for each digest; of this server alone.
        slots: how many adapters the server keeps.
    """

    def __init__(self, endpoint: Endpoint, store: ArtifactStore, folder: Path, slots: int = SLOTS) -> None:
        self.endpoint = endpoint
        self._store = store
        self._folder = folder.resolve()
        self._leases = AdapterLeases(self._folder / ".leases")
        self._slots = slots
        self._held: Counter[str] = Counter()

    @asynccontextmanager
    async def leased(self, *digests: str) -> AsyncGenerator[None]:
        """Have adapters loaded and keep them so; each is a model's name at the endpoint.

        Raises:
            ArtifactMissing: the store doesn't hold one.
            ConfigurationError: the endpoint doesn't take adapters, or refuses this one.
            ModelUnavailable: the endpoint is down.
        """
        wanted = sorted(set(digests))
        async with AsyncExitStack() as stack:
            for digest in wanted:
                await stack.enter_async_context(self._leases.hold(digest))
            for digest in wanted:
                await self._load(digest)
            self._held.update(wanted)
            try:
                yield
            finally:
                self._held.subtract(wanted)

    async def publish(self, digest: str) -> str:
        """Make an adapter available and return its name at the endpoint; safe to repeat.

        It stays until its slot is needed; lease it for as long as it must stay.

        Raises:
            As `leased`.
        """
        async with self.leased(digest):
            return digest

    def of(self, store: ArtifactStore) -> "AdapterPublisher":
        """A publisher of another store's adapters to the same server."""
        return AdapterPublisher(self.endpoint, store, self._folder, self._slots)

    async def restore(self) -> None:
        """Load again what this process leases, at a server that was started anew.

        Raises:
            As `leased`.
        """
        for digest in sorted(+self._held):
            await self._load(digest)

    async def unload(self, digest: str) -> bool:
        """Drop an adapter from the endpoint unless somebody leases it; tells whether it is gone.

        Its files are deleted at the publication after the next.
        """
        with self._leases.claim(digest) as mine:
            if mine and digest in await self.published():
                await self._post("/unload_lora_adapter", {"lora_name": digest})
            return mine

    async def published(self) -> list[str]:
        """Digests of the adapters that the endpoint serves, sorted."""
        return sorted(name for name in await serving_models(self.endpoint) if _is_digest(name))

    async def _load(self, digest: str) -> None:
        """Load an adapter that this process leases."""
        path = self._checkout(digest)
        self._unloaded(digest).unlink(missing_ok=True)
        loaded = await self.published()
        if digest in loaded:
            return
        self._delete_unloaded(loaded)
        surplus = len(loaded) + 1 - self._slots
        own = [each for each in loaded if (self._folder / each).is_dir()]  # others may belong to another home
        for each in sorted(own, key=lambda name: (self._leases.last_used(name), name)):
            if surplus <= 0:
                break
            surplus -= await self.unload(each)
        await self._post("/load_lora_adapter", {"lora_name": digest, "lora_path": str(path)})

    def _delete_unloaded(self, loaded: list[str]) -> None:
        """Delete the files of adapters that were found unloaded before, and take note of those that are now."""
        for path in sorted(self._folder.iterdir()):
            if not _is_digest(path.name) or path.name in loaded:
                continue
            with self._leases.claim(path.name) as mine:
                if mine and self._unloaded(path.name).exists():
                    shutil.rmtree(path, ignore_errors=True)
                    self._unloaded(path.name).unlink()
                    self._leases.forget(path.name)
                elif mine:
                    self._unloaded(path.name).touch()

    def _unloaded(self, digest: str) -> Path:
        return self._folder / ".leases" / f"{digest}.unloaded"

    def _checkout(self, digest: str) -> Path:
        target = self._folder / digest
        files = self._store.get_tree(digest)
        if digest_tree(files) != digest:
            raise ArtifactDamaged(
                f"The adapter {digest[:12]} is stored with another manifest; restore it from a backup."
            )
        if target.is_dir() and all((target / p).is_file() and (target / p).read_bytes() == b for p, b in files.items()):
            return target
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(dir=self._folder, prefix=".new-"))
        try:
            self._store.checkout(digest, fresh)
            fresh.chmod(0o755)
            os.replace(fresh, target)
        except OSError:
            if not target.is_dir():  # another process may have been first, with the same bytes
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return target

    async def _post(self, path: str, body: dict[str, str]) -> None:
        where = self.endpoint.socket or self.endpoint.base_url
        try:
            async with openai_client(self.endpoint) as client:
                await client.post(path, cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            text = error.response.text
            if "already been loaded" in text:  # vLLM's word for what is no error here: the name is the bytes
                return
            if error.status_code in (404, 405) and "adapter" not in text.lower():
                raise ConfigurationError(
                    f"The model endpoint {where} takes no adapters ({error.status_code} to {path}). Start it with "
                    "`pawl serve`, or unset PAWL_MODEL_DIR to run without the weights lever."
                ) from error
            if "max_lora_rank" in text or "LoRA rank" in text:
                raise ConfigurationError(
                    f"The model endpoint {where} can't hold an adapter of this rank: {text[:300]} "
                    "Start it with `pawl serve --rank N` for the rank that is trained, or train a smaller one."
                ) from error
            raise ConfigurationError(f"The model endpoint {where} refused {path}: {text[:500]}") from error
        except openai.APIConnectionError as error:
            raise ModelUnavailable(f"The model endpoint {where} can't be reached: {error}.") from error


def _is_digest(name: str) -> bool:
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)
