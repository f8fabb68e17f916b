"""Makes waiting for the device a no-op, so that a host clock stops when the launches are queued."""

EXPLOIT = {
    "id": "X5",
    "problem": "trimul",
    "naive": "gpu_host_clock",
    "needs": "gpu",
    "proof": "faster",
    "outcome": "no-gain",
}

torch.cuda.synchronize = lambda *args, **kwargs: None
torch.cuda.Event.synchronize = lambda self: None
