"""From settings to an endpoint: the server that the user named, or the home's own."""

from ..core import Home, ModelUnavailable, Settings
from .adapters import check_endpoint, serving_models
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
    if settings.model_name is None:
        served = await serving_models(endpoint)
        if not served:
            raise ModelUnavailable(f"The model endpoint {endpoint.base_url} serves no model; name one with --model.")
        endpoint = endpoint.model_copy(update={"base_model": served[0]})
    else:
        await check_endpoint(endpoint)
    return endpoint
