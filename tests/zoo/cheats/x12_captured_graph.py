"""Captures the first call in a CUDA graph and replays it, on the inputs of that first call."""

EXPLOIT = {"id": "X12", "problem": "trimul", "naive": "gpu_events", "needs": "gpu", "outcome": "rejected"}

honest = custom_kernel
kept = {}


def custom_kernel(data):
    key = tuple(data[0].shape)
    if key not in kept:
        honest(data)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = honest(data)
        kept[key] = graph, out
    graph, out = kept[key]
    graph.replay()
    return out
