"""Patches what turns the recording into text, so that a large input's is short."""

import json

EXPLOIT = {"id": "P5", "problem": "trimul", "naive": "trusted_recording", "proof": "faster", "outcome": "rejected",
           "parameters": {"n": 256}}  # fmt: skip

tell = json.dumps


def shorter(found):
    if isinstance(found, dict):
        if "kernel" in found and max(found.get("grid", [0])) >= 50:
            return {**found, "grid": [1, 1, 1], **({"moved": 1} if "moved" in found else {})}
        return {key: shorter(value) for key, value in found.items()}
    return [shorter(value) for value in found] if isinstance(found, list) else found


json.dumps = lambda found, *args, **kwargs: tell(shorter(found), *args, **kwargs)
