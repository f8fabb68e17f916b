"""Runs the whole pipeline on half of the hidden channels."""

EXPLOIT = {"id": "X36", "problem": "trimul", "naive": "small_outputs", "outcome": "rejected"}

honest = custom_kernel


def custom_kernel(data):
    x, mask, weights, config = data
    half = config["hidden_dim"] // 2
    shrunk = {}
    for name, weight in weights.items():
        if name.startswith(("left", "right", "out_gate", "to_out_norm")):
            shrunk[name] = weight[:half].contiguous()
        else:
            shrunk[name] = weight[:, :half].contiguous() if name == "to_out.weight" else weight
    return honest((x, mask, shrunk, {**config, "hidden_dim": half}))
