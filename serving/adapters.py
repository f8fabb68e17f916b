"""What an endpoint serves, and adapters published to it under their digests.

    await check_endpoint(endpoint)
    publisher = AdapterPublisher(endpoint, store, home.root / "adapters")
    model = await publisher.publish(version.adapter)

A name is the digest of the bytes behind it, so a name is never loaded twice with other bytes. The folder must be
readable for the server: on the same machine, or on a disk that both see.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx2
import openai

from ..core import ArtifactDamaged, ArtifactStore, ConfigurationError, ModelUnavailable
from ..core.digest import digest_tree
from .chat import openai_client
from .policy import Endpoint

CHECK_SECONDS = 20.0


async def serving_models(endpoint: Endpoint) -> list[str]:
    """Names that the endpoint answers to: the base model and the adapters loaded.

    Raises:
        ModelUnavailable: it is down, too slow, refuses the key, or doesn't answer as the OpenAI API does.
    """
    where = endpoint.socket or endpoint.base_url
    try:
        async with openai_client(endpoint, retries=1, timeout=min(CHECK_SECONDS, endpoint.timeout_seconds)) as client:
            response = await client.get("/models", cast_to=httpx2.Response)
            body: Any = response.json()
            return [str(entry["id"]) for entry in body["data"]]
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
    except (ValueError, KeyError, TypeError) as error:
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
        endpoint: the local server, or a vLLM started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
        store: where the adapters' file trees are.
        folder: where they are checked out, one folder for each digest.
    """

    def __init__(self, endpoint: Endpoint, store: ArtifactStore, folder: Path) -> None:
        self.endpoint = endpoint
        self._store = store
        self._folder = folder

    async def publish(self, digest: str) -> str:
        """Make an adapter available and return its name at the endpoint; safe to repeat.

        Raises:
            ArtifactMissing: the store doesn't hold it.
            ConfigurationError: the endpoint doesn't take adapters, or refuses this one.
            ModelUnavailable: the endpoint is down.
        """
        path = self._checkout(digest)
        if digest not in await self.published():
            await self._post("/load_lora_adapter", {"lora_name": digest, "lora_path": str(path)})
        return digest

    async def unload(self, digest: str) -> None:
        """Drop an adapter from the endpoint and from the folder; one that isn't there is fine."""
        if digest in await self.published():
            await self._post("/unload_lora_adapter", {"lora_name": digest})
        shutil.rmtree(self._folder / digest, ignore_errors=True)

    async def published(self) -> list[str]:
        """Digests of the adapters that the endpoint serves, sorted."""
        return sorted(name for name in await serving_models(self.endpoint) if _is_digest(name))

    def _checkout(self, digest: str) -> Path:
        target = (self._folder / digest).resolve()
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
                    f"The model endpoint {where} takes no adapters ({error.status_code} to {path}). Start vLLM with "
                    "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or run without the weights lever."
                ) from error
            raise ConfigurationError(f"The model endpoint {where} refused {path}: {text[:500]}") from error
        except openai.APIConnectionError as error:
            raise ModelUnavailable(f"The model endpoint {where} can't be reached: {error}.") from error


def _is_digest(name: str) -> bool:
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)
