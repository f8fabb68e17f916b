"""Answer with nothing: `{}`, `[]`, null, an empty text (`{}` passed every item of a benchmark of field work)."""

import json

SCORED = True
VARIANTS = 8
ANSWERS = ("{}", "[]", "null", '""', '{"output": {}}', '{"output": ""}', '{"output": null}', '{"output": [{}]}')


def attack(given, attempt):
    attempt("answer", attempt.write, "output.json", ANSWERS[given.get("variant", 0)])


def verdict(arena, result):
    answer, expected = json.loads((arena.work / "output.json").read_text()), {"label": "C"}
    wrong = [key for key in answer if answer[key] != expected.get(key)]
    return [] if wrong else ["a harness that looks for wrong fields finds none"]
