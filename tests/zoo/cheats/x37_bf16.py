"""bfloat16 between all steps under a contract for fp32; the one for fp16 allows it."""

EXPLOIT = {
    "id": "X37", "problem": "trimul", "naive": "recheck", "proof": "imprecise", "outcome": "rejected",
    "precision": "fp32", "expected": ["precision", "bias", "wrong-result"],
}  # fmt: skip

run_project, run_normalise = project, normalise


def project(x, weight, sigmoid):
    return run_project(x.bfloat16().float(), weight.bfloat16().float(), sigmoid).bfloat16().float()


def normalise(x, weight, bias):
    return run_normalise(x.bfloat16().float(), weight, bias).bfloat16().float()
