"""From settings to an endpoint: the server that the user named, or the home's own."""

from ..core import Home, ModelUnavailable, Settings
from .adapters import check_endpoint, model_owners
from .local import ensure_local_server
from .policy import Endpoint
from .weights import Progress


async def connect(home: Home, settings: Settings, progress: Progress | None = None) -> Endpoint:
    """The model endpoint to use, checked.

    Raises:
        ConfigurationError: the local model is asked for and its extra isn't installed.
        ModelUnavailable: nothing usable answers.
    """
    if settings.model_url is None:
        return await ensure_local_server(home, settings, progress)
    endpoint = Endpoint(
        base_url=settings.model_url.rstrip("/"), api_key=settings.model_api_key, base_model=settings.model_name or ""
    )
    if settings.model_name is not None:
        await check_endpoint(endpoint)
    owners = await model_owners(endpoint)
    if not owners:
        raise ModelUnavailable(f"The model endpoint {endpoint.base_url} serves no model; name one with --model.")
    name = settings.model_name or next(iter(owners))
    return endpoint.model_copy(update={"base_model": name, "is_vllm": owners.get(name) == "vllm"})
