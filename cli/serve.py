"""`pawl serve`: a model server in the foreground, the local one or vLLM in an environment of its own."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import JsonOption, print_json

if TYPE_CHECKING:
    from ..serving.vllm import Launch


def serve(
    model_dir: Annotated[
        Path | None, typer.Option("--model-dir", help="Folder of the base model; PAWL_MODEL_DIR, or the built-in one.")
    ] = None,
    vllm: Annotated[
        Path | None,
        typer.Option("--vllm", help="vLLM's executable or environment; PAWL_VLLM. Without it, the local server."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the base model is called; its folder's name.")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to bind; others than 127.0.0.1 need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Largest rank of an adapter.")] = 32,
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Adapters held at once; PAWL_ADAPTER_SLOTS.")
    ] = None,
    staleness: Annotated[
        int, typer.Option("--staleness", min=0, help="Steps by which rollouts may lag behind; needs 2 slots more.")
    ] = 2,
    max_model_len: Annotated[
        int | None, typer.Option("--max-model-len", min=1, help="vLLM: longest sequence in tokens; the model's.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="vLLM: auto, bfloat16, float16, float32.")] = "auto",
    tensor_parallel: Annotated[
        int, typer.Option("--tensor-parallel", min=1, help="vLLM: GPUs that share the model.")
    ] = 1,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="File with the key that requests need; PAWL_MODEL_API_KEY.")
    ] = None,
    build_vllm_cpu: Annotated[
        Path | None,
        typer.Option("--build-vllm-cpu", metavar="DIR", help="Make an environment with vLLM for the CPU, and end."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Serve a model with adapters until a signal; says what to export for the other commands."""
    from ..core import ConfigurationError, Settings
    from ..serving.foreground import run_foreground
    from ..serving.launching import ServeOptions, prepared

    if build_vllm_cpu is not None:
        from ..serving.vllm_build import build_vllm_cpu as build

        executable = build(build_vllm_cpu, _tell)
        if json:
            print_json({"vllm": str(executable)})
        else:
            typer.echo(f"export PAWL_VLLM={quote(str(executable))}")
        return
    given = {"model_dir": model_dir, "vllm": vllm, "adapter_slots": slots}
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings = Settings(**chosen)
    options = ServeOptions(
        name=name,
        host=host,
        port=port,
        rank=rank,
        staleness=staleness,
        max_model_len=max_model_len,
        dtype=dtype,
        tensor_parallel=tensor_parallel,
        api_key_file=api_key_file,
    )
    with prepared(options, settings, _tell) as (launch, folder):
        _tell(f"Starting {'vLLM' if settings.vllm else 'the local server'} for {launch.name}")
        status = run_foreground(launch, lambda each, pid: _ready(each, pid, folder, settings.adapter_slots, json))
    if status:
        raise ConfigurationError(f"The model server ended with status {status}; its last words are above.")


def _ready(launch: "Launch", pid: int, folder: Path, slots: int, json: bool) -> None:
    exports = {
        "PAWL_MODEL_URL": launch.base_url,
        "PAWL_MODEL_NAME": launch.name,
        "PAWL_MODEL_DIR": str(folder),
        "PAWL_ADAPTER_SLOTS": str(slots),
    }
    if json:
        print_json({"base_url": launch.base_url, "model": launch.name, "pid": pid, "export": exports})
        return
    typer.echo(f"Serving {launch.name} at {launch.base_url}, process {pid}; Ctrl-C ends it. For other commands:")
    for key, value in exports.items():
        typer.echo(f"  export {key}={quote(value)}")
    if launch.api_key is not None:
        typer.echo("  export PAWL_MODEL_API_KEY=...  # the key that you gave")


def _tell(line: str) -> None:
    typer.echo(line, err=True)
