"""Switches TF32 off and the default type to fp64, so that a baseline measured later has the worse of it."""

EXPLOIT = {
    "id": "X11",
    "problem": "trimul",
    "naive": "speedup",
    "needs": "gpu",
    "proof": "faster",
    "outcome": "no-gain",
}

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.set_float32_matmul_precision("highest")
held = torch.empty(1 << 20, device="cuda")
