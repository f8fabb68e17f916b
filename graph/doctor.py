"""Doctor: what this machine and this home offer, one finding a line."""

import importlib.util
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..core import Database, Home, PawlError, SandboxUnavailable, Settings, Usage


class Finding(BaseModel):
    """One thing that is here, or isn't."""

    model_config = ConfigDict(frozen=True)

    what: str
    present: bool
    detail: str
    needed: bool = False
    """Whether Pawl can't run a campaign without it."""


def examine(home: Home, settings: Settings) -> list[Finding]:
    """Look at GPU, sandbox, model and database; changes nothing and starts nothing."""
    return [
        _gpu(),
        *_sandbox(),
        _local_extra(),
        _weights(settings),
        _endpoint(settings),
        _prices(settings),
        *_databases(home, settings),
    ]


def _gpu() -> Finding:
    devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
    tool = shutil.which("nvidia-smi")
    detail = f"{len(devices)} device files, nvidia-smi {'found' if tool else 'not found'}"
    if not devices:
        detail = "none; kernels are interpreted and compiled, their H100 times are estimated"
    return Finding(what="GPU", present=bool(devices), detail=detail)


def _sandbox() -> list[Finding]:
    from ..safety.sandbox import Use, default_sandbox, probe
    from ..safety.sandbox.rules import GIVEN_BY, advice, guarantees, missing

    reports = probe()
    layers = frozenset(each.layer for each in reports if each.present)
    found = [Finding(what=f"sandbox layer {each.layer}", present=each.present, detail=each.detail) for each in reports]
    given = guarantees(layers)
    for what, alternatives in GIVEN_BY.items():
        by = next((each for each in alternatives if each <= layers), None)
        detail = f"by {', '.join(sorted(by))}" if by is not None else f"{advice([what])}."
        found.append(Finding(what=f"sandbox guarantee: {what}", present=what in given, detail=detail))
    try:
        default_sandbox()
    except SandboxUnavailable as error:
        return [*found, Finding(what="sandbox", present=False, detail=str(error), needed=True)]
    refused = [use for use in Use if missing(use, layers)]
    detail = "strong enough for every use"
    if refused:
        detail = f"strong enough for candidates, not for {', '.join(refused)}"
    return [*found, Finding(what="sandbox", present=True, detail=detail, needed=True)]


def _local_extra() -> Finding:
    missing = [name for name in ("torch", "triton", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            what="local extra", present=False, detail=f"without {', '.join(missing)}: pip install 'pawl-agents[local]'"
        )
    return Finding(what="local extra", present=True, detail="torch, triton, transformers and peft are installed")


def _weights(settings: Settings) -> Finding:
    folder = settings.model_dir or settings.cache
    found = sorted(folder.glob("**/*.safetensors")) if folder.exists() else []
    detail = str(found[0].parent) if found else "fetched from the package registry and converted at the first run"
    return Finding(what="local model's weights", present=bool(found), detail=detail)


def _endpoint(settings: Settings) -> Finding:
    if settings.model_url is None:
        return Finding(what="model endpoint", present=True, detail="the local server, started when a campaign runs")
    import asyncio

    from ..serving.adapters import serving_models
    from ..serving.policy import Endpoint

    endpoint = Endpoint(
        base_url=settings.model_url,
        api_key=settings.model_api_key,
        base_model=settings.model_name or "",
        timeout_seconds=10.0,
    )
    try:
        models = asyncio.run(serving_models(endpoint))
    except PawlError as error:
        return Finding(what="model endpoint", present=False, detail=str(error), needed=True)
    return Finding(what="model endpoint", present=True, detail=f"serves {', '.join(models) or 'no model'}", needed=True)


def _prices(settings: Settings) -> Finding:
    from ..safety.budget import hardware_prices, prices_of

    own = settings.model_url is None or settings.gpus > 0
    try:
        if settings.model_name is None and not own:
            return Finding(what="price", present=True, detail="looked up when a campaign knows its model")
        prices = prices_of(settings, settings.model_name or "", own_hardware=own)
        if settings.gpus:
            hardware_prices(settings).cost(Usage(gpu_seconds=1))
    except PawlError as error:
        return Finding(what="price", present=False, detail=str(error), needed=True)
    return Finding(what="price", present=True, detail=prices.version, needed=True)


def _databases(home: Home, settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    if settings.database_url is not None or home.database.exists():
        where = settings.database_url or f"sqlite:///{home.database}"
        shown = where.rpartition("@")[2]
        try:
            database = Database(where)
            with database.read() as connection:
                connection.exec_driver_sql("SELECT 1")
            if database.is_sqlite:
                with database.read() as connection:
                    state = str(connection.exec_driver_sql("PRAGMA quick_check").scalar())
            else:
                state = "ok"
            database.close()
            findings.append(Finding(what="database", present=state == "ok", detail=f"{shown}: {state}", needed=True))
        except Exception as error:  # whatever a driver raises is the finding
            findings.append(Finding(what="database", present=False, detail=f"{shown}: {error}", needed=True))
    else:
        findings.append(Finding(what="database", present=True, detail=f"made at {home.database} by the first campaign"))
    return findings
