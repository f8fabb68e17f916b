"""Promises of `pawl serve`: the right flags, a server that ends with the command, errors that say what to do."""

import json
import os
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from pawl.core import ConfigurationError
from pawl.serving.vllm import RANKS, Served, rank_for, vllm_launch
from pawl.serving.vllm_build import build_vllm_cpu, requirements_of

from .model_fixtures import smollm2, tiny_adapters, tiny_model_dir
from .test_cli import here

__all__ = ["smollm2", "tiny_adapters", "tiny_model_dir"]


@pytest.fixture
def served(tmp_path: Path) -> Served:
    (tmp_path / "config.json").write_text("{}")
    return Served(executable=Path("/opt/vllm"), model_dir=tmp_path, name="base", port=8001)


def flags(served: Served) -> dict[str, str]:
    argv = vllm_launch(served).argv
    return {name: value for name, value in pairwise(argv) if name.startswith("--")}


def test_vllm_is_started_for_adapters_that_come_and_go(served: Served) -> None:
    launch, given = vllm_launch(served), flags(served)
    assert launch.argv[:3] == ("/opt/vllm", "serve", str(served.model_dir))
    assert "--enable-lora" in launch.argv
    assert launch.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert (given["--host"], given["--max-loras"], given["--max-lora-rank"]) == ("127.0.0.1", "4", "32")
    assert given["--logprobs-mode"] == "processed_logprobs"


@pytest.mark.parametrize(("rank", "held"), [(1, 1), (2, 8), (17, 32), (200, 256), (512, 512)])
def test_the_smallest_rank_that_vllm_takes_holds_the_one_asked_for(served: Served, rank: int, held: int) -> None:
    assert rank_for(rank) == held
    assert held in RANKS
    assert flags(served.model_copy(update={"rank": rank}))["--max-lora-rank"] == str(held)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 513}, "rank 512 at most"),
        ({"slots": 3}, "need 4"),
        ({"host": "0.0.0.0"}, "Give it a key"),
        ({"model_dir": Path("/nowhere")}, "no config.json"),
    ],
)
def test_what_vllm_could_not_serve_is_refused_before_it_starts(served: Served, change: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        vllm_launch(served.model_copy(update=change))


def test_the_key_goes_by_the_environment_and_others_secrets_do_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAWL_MODEL_API_KEY", "of-another")
    launch = vllm_launch(served.model_copy(update={"api_key": SecretStr("hush"), "host": "0.0.0.0"}))
    assert launch.environment["VLLM_API_KEY"] == "hush"
    assert "hush" not in " ".join(launch.argv)
    assert "of-another" not in launch.environment.values()
    assert launch.base_url == "http://127.0.0.1:8001/v1"


def test_requirements_leave_out_what_reads_pictures_and_sound(tmp_path: Path) -> None:
    import zipfile

    lines = ["torch==2.13.0+cpu; platform_machine == 'x86_64'", "torchvision", "numpy", "pandas; extra == 'bench'"]
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        head = "".join(f"Requires-Dist: {line}\n" for line in lines)
        wheel.writestr("x-1.dist-info/METADATA", f"Name: x\n{head}\nRequires-Dist: of the description\n")
    assert requirements_of(tmp_path / "x.whl") == ["torch==2.13.0; platform_machine == 'x86_64'", "numpy"]


def test_an_environment_is_not_made_over_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="holds something"):
        build_vllm_cpu(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_what_is_wrong_with_a_command_is_said(tmp_path: Path, tiny_model_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        empty = tmp_path / "key"
        empty.touch()
        for words, message in (
            (["--vllm", "/nowhere"], "is no program"),
            (["--model-dir", str(tmp_path)], "has no *.safetensors"),
            (["--port", port], "choose another --port"),
            (["--slots", "3"], "need 4"),
            (["--host", "0.0.0.0"], "binds 127.0.0.1 alone"),
            (["--tensor-parallel", "2"], "is vLLM's"),
            (["--api-key-file", str(empty)], "holds no key"),
        ):
            model = () if "--model-dir" in words else ("--model-dir", str(tiny_model_dir))
            done = here("serve", *words, *model)
            assert done.returncode == 1
            assert message in done.stderr, done.stderr
            assert "Traceback" not in done.stderr


def test_a_server_answers_and_ends_with_the_command(
    tiny_model_dir: Path, tiny_adapters: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("hush\n")
    options = (
        "--model-dir",
        tiny_model_dir,
        "--rank",
        "2",
        "--port",
        "0",
        "--api-key-file",
        tmp_path / "key",
        "--json",
    )
    command = [sys.executable, "-P", "-m", "pawl.cli.main", "serve", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["export"]["PAWL_MODEL_DIR"] == str(tiny_model_dir)
        url, key = told["base_url"], {"Authorization": "Bearer hush"}
        assert httpx.get(f"{url}/models").status_code == 401
        assert httpx.get(f"{url}/models", headers=key).json()["data"][0]["id"] == told["model"]
        adapter = {"lora_name": "a", "lora_path": str(tiny_adapters[0])}
        refused = httpx.post(f"{url}/load_lora_adapter", json=adapter, headers=key)
        assert refused.status_code == 400
        assert "LoRA rank 4 is greater than max_lora_rank 2" in refused.json()["error"]["message"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(told["pid"], 0)
