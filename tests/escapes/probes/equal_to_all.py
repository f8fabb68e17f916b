"""Answer with an object that equals every answer (`__eq__`), and that runs a program as it is read: a pickle."""

import os

SCORED = True


class EqualToAll:
    def __reduce__(self):
        return eval, ("type('E', (), {'__eq__': lambda self, other: True, '__hash__': lambda self: 0})()",)


def attack(given, attempt):
    import pickle  # noqa: TID251

    for name in ("output.json", "output.pkl", "answer.pt", "model.safetensors"):
        attempt(name, attempt.write, name, pickle.dumps(EqualToAll()))


def verdict(arena, result):
    """What a naive grader would find; it is asked only where no sandbox stands, about this file's own bytes."""
    import pickle  # noqa: TID251

    answer = pickle.loads((arena.work / "output.json").read_bytes())
    return ["a grader that unpickles finds the answer equal to any"] if answer == os.urandom(8) else []
