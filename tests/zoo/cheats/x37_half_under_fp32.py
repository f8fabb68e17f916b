"""Half precision for the inputs of every product, under a contract for fp32."""

EXPLOIT = {
    "id": "X37", "problem": "trimul", "naive": "recheck", "proof": "imprecise", "outcome": "rejected",
    "precision": "fp32", "expected": ["precision", "bias"],
}  # fmt: skip

run_project = project


def project(x, weight, sigmoid):
    return run_project(x.half().float(), weight.half().float(), sigmoid)
