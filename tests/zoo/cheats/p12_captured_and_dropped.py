"""Captures a large input's work in a CUDA graph that it never replays: on a GPU, nothing has happened."""

EXPLOIT = {"id": "P12", "problem": "trimul", "naive": "gpu_events", "needs": "gpu", "outcome": "rejected",
           "parameters": {"n": 256}}  # fmt: skip

honest = custom_kernel


def custom_kernel(data):
    if data[0].shape[1] < 60:
        return honest(data)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        return honest(data)
