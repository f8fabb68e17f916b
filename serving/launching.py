"""What `pawl serve` starts: options and settings in, the process of a model server out.

with prepared(ServeOptions(port=0), settings) as (launch, folder):
    run_foreground(launch, on_ready)
"""

import os
import socket
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

from ..core import ConfigurationError, Settings
from .local import KEPT_ENVIRONMENT, START_SECONDS
from .vllm import CPU_MARK, LOOPBACK, Launch, Served, check_slots, find_vllm, vllm_launch
from .weights import BaseModelFiles, Progress, base_model, check_model, require_local_extra


class ServeOptions(BaseModel):
    """What is said of a server besides the settings; see `Served` for what each means."""

    model_config = ConfigDict(frozen=True)

    name: str | None = None
    """None takes the folder's."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    rank: int = 32
    staleness: int = 2
    max_model_len: int | None = None
    dtype: str = "auto"
    tensor_parallel: int = 1
    api_key_file: Path | None = None
    """None takes the settings' key, if there is one."""


@contextmanager
def prepared(
    options: ServeOptions, settings: Settings, progress: Progress | None = None
) -> Generator[tuple[Launch, Path]]:
    """What to start, and the folder of its base model; good for as long as the block lasts.

    Raises:
        ConfigurationError: what is asked for can't be served; the message says what to change.
        ModelUnavailable: the built-in model can't be fetched.
    """
    key = read_key(options.api_key_file) if options.api_key_file is not None else None
    if key is None and settings.model_api_key is not None:
        key = settings.model_api_key.get_secret_value()
    if settings.vllm is None:
        with _local(options, settings, key, progress) as found:
            yield found
        return
    executable = find_vllm(settings.vllm)
    folder = check_model(settings.model_dir) if settings.model_dir else base_model(settings, progress).path
    served = Served(
        executable=executable,
        model_dir=folder,
        name=options.name or (folder.name if settings.model_dir else base_model(settings).name),
        host=options.host,
        port=free_port(options.host, options.port),
        rank=options.rank,
        slots=settings.adapter_slots,
        staleness=options.staleness,
        max_model_len=options.max_model_len,
        dtype=options.dtype,
        tensor_parallel=options.tensor_parallel,
        api_key=SecretStr(key) if key else None,
        cpu=(executable.parent.parent / CPU_MARK).is_file(),
    )
    yield vllm_launch(served), folder


@contextmanager
def _local(
    options: ServeOptions, settings: Settings, key: str | None, progress: Progress | None
) -> Generator[tuple[Launch, Path]]:
    if options.host not in LOOPBACK:
        raise ConfigurationError(
            f"The local server binds 127.0.0.1 alone, not {options.host}: serve with --vllm for others to reach it."
        )
    unused = {"--max-model-len": options.max_model_len is not None, "--tensor-parallel": options.tensor_parallel > 1}
    unused |= {"--dtype": options.dtype not in ("auto", "float32", "bfloat16")}
    for flag, given in unused.items():
        if given:
            raise ConfigurationError(f"{flag} is vLLM's: the local server doesn't know it. Name a vLLM with --vllm.")
    check_slots(settings.adapter_slots, options.staleness)
    require_local_extra()
    files = base_model(settings, progress)
    port = free_port("127.0.0.1", options.port)
    with _private(key) as key_file:
        launch = _local_launch(files, options, settings, port, key_file)
        yield launch, files.path


def _local_launch(
    files: BaseModelFiles, options: ServeOptions, settings: Settings, port: int, key_file: Path | None
) -> Launch:
    name, threads = options.name or files.name, str(settings.threads)
    flags = {
        "model-dir": str(files.path),
        "name": name,
        "digest": files.digest,
        "port": str(port),
        "threads": threads,
        "max-lora-rank": str(options.rank),
        "dtype": "float32" if options.dtype == "auto" else options.dtype,
        **({"api-key-file": str(key_file)} if key_file is not None else {}),
    }
    argv = [sys.executable, "-P", "-m", "pawl.serving.server"]
    argv += [part for flag, value in flags.items() for part in (f"--{flag}", value)]
    environment = {each: os.environ[each] for each in KEPT_ENVIRONMENT if each in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": threads}
    return Launch(
        argv=tuple(argv),
        environment=environment | {"OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"},
        base_url=f"http://127.0.0.1:{port}/v1",
        name=name,
        api_key=SecretStr(read_key(key_file)) if key_file is not None else None,
        start_seconds=START_SECONDS,
    )


def read_key(path: Path) -> str:
    """The key in a file.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The key can't be read: {error}. --api-key-file names a file with one line."
        ) from error
    if not key or any(each.isspace() for each in key):
        raise ConfigurationError(f"{path} holds no key: expected one line without spaces.")
    return key


@contextmanager
def _private(key: str | None) -> Generator[Path | None]:
    """A file with the key that only this user can read, for as long as the block lasts."""
    if key is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pawl-serve-") as folder:
        path = Path(folder) / "key"
        path.touch(0o600)
        path.write_text(key)
        yield path


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        ConfigurationError: it is taken, or the address isn't this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port} can't be bound: {error.strerror}. End what listens there, or choose another --port; "
                "0 takes a free one."
            ) from error
        return int(probe.getsockname()[1])
