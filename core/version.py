"""A version: everything that decides how an agent behaves, and its content id."""

from pydantic import BaseModel, ConfigDict, Field

from .digest import digest_json


class Sampling(BaseModel):
    """How a policy is sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(default=512, ge=1)
    """Upper bound of one model call."""


class Version(BaseModel):
    """Scaffold, adapter, base model and sampling parameters; its id is the digest of those four."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scaffold: str
    """Digest of the scaffold's file tree in the artefact store."""
    adapter: str | None = None
    """Digest of the adapter's file tree (adapter_config.json, adapter_model.safetensors), or none."""
    base_model: str
    """Name of the base model as its server knows it, with its digest where the server tells one."""
    sampling: Sampling = Sampling()

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of this version."""
        return digest_json(self)

    @property
    def model(self) -> str:
        """The name that a request carries: the adapter's digest, or the base model's name."""
        return self.adapter if self.adapter is not None else self.base_model
