"""How the rest of Pawl speaks of a model server: where it is, and what can be asked of it."""

from pydantic import BaseModel, ConfigDict, SecretStr


class Endpoint(BaseModel):
    """An OpenAI-compatible server.

    Either a base URL (with `/v1`), or the path of a Unix socket on which a proxy speaks the same API.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str = "http://localhost/v1"
    socket: str | None = None
    """Path of a Unix socket; the base URL's host is then ignored."""
    api_key: SecretStr | None = None
    base_model: str
    """Name of the base model at this server."""
    is_local: bool = False
    """Whether this is Pawl's own local server: small, adapters allowed, no price."""
    is_vllm: bool = False
    """Whether it says that it is vLLM: it then masks draws to given tokens, and scores prompts."""
    timeout_seconds: float = 60.0
