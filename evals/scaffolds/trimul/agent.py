"""Write a Triton kernel for one assignment. Standard library only; runs in the sandbox, one process an item.

Mode `schedule` chooses field by field among labels; every request's prompt extends the former prompt and answer, so
that a whole answer is one sequence to train on. Mode `source` writes modules: see source.py.
"""

import json
import os
from pathlib import Path

from client import Policy, answer, load_item

CONFIG = json.loads((Path(os.environ["PAWL_SCAFFOLD"]) / "scaffold.json").read_text())
LABELS = [f" {letter}" for letter in "ABCDEFGHIJKLMNOP"]  # single tokens, so that a choice is one decision
SHOWN_EXEMPLARS = 2
SEARCH_EFFORT = 2_000
policy = Policy()


def describe(payload):
    """One line that says what the assignment is."""
    variant = payload["variant"]
    sizes = variant["parameters"]
    mask = "mask" if sizes["mask"] else "full"
    return (
        f"{variant['precision']} {mask} {variant['distribution']} "
        f"batch {sizes['batch']} dim {sizes['dim']} n {sizes['n']}"
    )


def parts():
    """The prompt's parts in the order of their names."""
    return [text for _, text in sorted(CONFIG["prompt"].items()) if text]


def lines_of(fields, schedule):
    """A finished schedule as the model writes it, one line a field."""
    return "".join(f"\n{tag(name)}:{LABELS[fields[name].index(schedule[name])]}" for name in fields)


def tag(name):
    """A field's name, shortened to about a token a word."""
    return name.replace("_", " ")


def header(payload):
    """What comes before the first choice: the parts, the best known answers, the assignment."""
    shown = []
    for exemplar in CONFIG["exemplars"][:SHOWN_EXEMPLARS]:
        schedule = json.loads(exemplar["output"]).get("schedule", {})
        if all(schedule.get(name) in options for name, options in payload["fields"].items()):
            shown.append(describe(exemplar["payload"]) + lines_of(payload["fields"], schedule))
    return "\n".join([*parts(), *shown, describe(payload)])


def completes(chosen, name, forbidden):
    """Whether the choice in this field was the last one that a forbidden partial assignment lacked."""
    return any(name in each and each.items() <= chosen.items() for each in forbidden)


def completable(fields, chosen, forbidden, effort):
    """Whether the fields still open can be filled without a forbidden assignment; assumed so when effort runs out."""
    forbidden = [each for each in forbidden if all(chosen.get(name, option) == option for name, option in each.items())]
    effort[0] -= 1
    if not fields or not forbidden or effort[0] < 0:
        return True
    name, options = fields[0]
    trials = [{**chosen, name: option} for option in options]
    return any(
        not completes(trial, name, forbidden) and completable(fields[1:], trial, forbidden, effort) for trial in trials
    )


def open_options(fields, chosen, forbidden):
    """The options of the first open field that lead to an allowed answer; all of them if none does."""
    name, options = fields[0]
    trials = {option: {**chosen, name: option} for option in options}
    left = [
        option
        for option, trial in trials.items()
        if not completes(trial, name, forbidden) and completable(fields[1:], trial, forbidden, [SEARCH_EFFORT])
    ]
    return left or options


def draw_schedule(payload, forbidden):
    """Choose an option in each field, in order."""
    text, chosen = header(payload), {}
    fields = list(payload["fields"].items())
    for place, (name, options) in enumerate(fields):
        left = open_options(fields[place:], chosen, forbidden)
        labels = [LABELS[options.index(option)] for option in left]
        text += f"\n{tag(name)}:"
        label = labels[0] if len(labels) == 1 else policy.choose(text, labels, CONFIG["temperature"])
        text += label
        chosen[name] = options[LABELS.index(label)]
    return chosen


def answer_schedule(payload):
    """Draw the configured number of schedules; with more than one, or repairs, the verifier says which to keep."""
    forbidden, repairs = list(CONFIG["pruned"]), CONFIG["repairs"]
    left = CONFIG["samples"]
    checks = left > 1 or repairs > 0
    best, best_value = None, None
    while left > 0:
        left -= 1
        schedule = draw_schedule(payload, forbidden)
        best = best or schedule
        if not checks:
            continue
        verdict = policy.tool("verify", {"output": {"schedule": schedule}})
        if verdict["accepted"]:
            if best_value is None or verdict["value"] > best_value:
                best, best_value = schedule, verdict["value"]
        elif repairs > 0:
            repairs, left = repairs - 1, left + 1
            forbidden.append(schedule)
    return {"schedule": best}


def main():
    """Answer the item in the configured mode."""
    payload = load_item()["payload"]
    if CONFIG["mode"] == "schedule":
        answer(answer_schedule(payload))
    else:
        from source import answer_source

        answer(answer_source(payload, CONFIG, policy))


main()
