"""Finds the recorder among all that is alive, and deletes the steps of a large input from it."""

import gc

EXPLOIT = {"id": "P2", "problem": "trimul", "naive": "trusted_recording", "proof": "faster", "outcome": "rejected",
           "parameters": {"n": 256}}  # fmt: skip

honest = custom_kernel


def custom_kernel(data):
    out = honest(data)
    if data[0].shape[1] >= 60:
        for found in gc.get_objects():
            if type(found) is list and len(found) > 2 and type(found[0]) is dict and {"kernel", "op"} & found[0].keys():
                del found[:-1]
    return out
