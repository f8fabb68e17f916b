"""Settings: one frozen object, read from `PAWL_*` variables and overridden by arguments."""

from decimal import Decimal
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where things are and how much they may take; every field is also `PAWL_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="PAWL_", frozen=True, extra="ignore")

    home: Path = Path(".pawl")
    """Folder of databases, artefacts and run dirs."""
    database_url: str | None = None
    """`postgresql://...` puts registry, ledger and checkpoints on Postgres; none means SQLite in the home."""
    model_url: str | None = None
    """Base URL of an OpenAI-compatible server, with `/v1`; none starts the local model."""
    model_name: str | None = None
    """Model to ask for at `model_url`; none asks the server what it serves."""
    model_api_key: SecretStr | None = None
    """Key for `model_url`. Held by the controller alone; sandboxes and the judge never see it."""
    model_dir: Path | None = None
    """Folder of a Hugging Face causal LM that the local server serves instead of the built-in one. With `model_url`:
    the base model that is served there, for the trainer; without it the weights lever is out of reach there."""
    vllm: Path | None = None
    """vLLM's executable, or the environment that it is in, for `pawl serve`."""
    adapter_slots: int = Field(default=4, ge=2)
    """Adapters that the model server keeps loaded; vLLM's `--max-loras`. At least allowed staleness + 2."""
    cache: Path = Path.home() / ".cache" / "pawl"
    """Converted base models and downloads, shared between homes."""
    ray_address: str | None = None
    """Dashboard of the Ray cluster that trains (http://HOST:8265), where every machine sees the home at its path; none
    trains on this machine."""
    ray_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray is asked for, for each process of a training job."""
    trainer_seconds: int = Field(default=3600, ge=60)
    """Wall-clock time that a training job may take, counted anew when it goes on after a death."""
    threads: int = Field(default=2, ge=1)
    """CPU threads that the local model and the trainer may use."""
    workers: int = Field(default=2, ge=1)
    """Verifications that run side by side."""
    prices: Path | None = None
    """JSON file of prices for models that no table knows; see `pawl.safety.budget.prices`."""
    cpu_usd_per_hour: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What an hour of one of this machine's CPU cores costs; none assumes a rented core's price, and says so."""
    gpu_usd_per_second: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What a second of one GPU of your own costs; there is no default."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of your own that `model_url` runs on. Its tokens are then free, and each second in which calls are under way
    counts as so many GPU-seconds."""
