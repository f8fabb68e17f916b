# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Convert one GGUF file to a Hugging Face folder of bfloat16 safetensors, in a process of its own.

python -P -m pawl.serving.convert MODEL.gguf TARGET
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def convert(gguf: Path, target: Path) -> None:
    """Read a GGUF as an ordinary model, not as a quantised one, which could be neither saved nor trained."""
    where: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, **where)
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16, **where
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    for file in target.iterdir():
        file.chmod(0o644)  # weights are written for their owner alone, but a sandboxed job may be another user


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
