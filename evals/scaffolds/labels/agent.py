"""Name a label for a context word. Standard library only; runs in the sandbox, one process an item."""

import json
import os
import re
from pathlib import Path

from client import Policy, answer, load_item

CONFIG = json.loads((Path(os.environ["PAWL_SCAFFOLD"]) / "scaffold.json").read_text())
policy = Policy()


def prompt_of(item):
    """The parts in the order of their names, one line an exemplar, then the word."""
    lines = [text for _, text in sorted(CONFIG["prompt"].items())]
    for exemplar in CONFIG["exemplars"]:
        label = json.loads(exemplar["output"]).get("label", "")
        lines.append(f"{exemplar['payload'].get('context', '')}: {label}")
    return "\n".join([*lines, f"{item['payload']['context']}:"])


def draw(item, forbidden):
    """One label, or none where the model's text names none."""
    refused = {each["label"] for each in CONFIG["pruned"] if set(each) == {"label"}} | forbidden
    labels = [label for label in item["payload"]["labels"] if label not in refused] or item["payload"]["labels"]
    if CONFIG["mode"] == "schedule":
        if len(labels) == 1:
            return labels[0]
        return policy.choose(prompt_of(item), [f" {label}" for label in labels], CONFIG["temperature"]).strip()
    question = f"{prompt_of(item)}\nAnswer with one of: {', '.join(labels)}."
    text = policy.chat([{"role": "user", "content": question}], temperature=CONFIG["temperature"])
    named = re.search(rf"\b({'|'.join(labels)})\b", text)
    return named.group(1) if named else None


def main():
    """Draw the configured number of labels, keep the best that is accepted."""
    item = load_item()
    best, best_value, forbidden, repairs = None, None, set(), CONFIG["repairs"]
    checks = CONFIG["samples"] > 1 or repairs > 0
    left = CONFIG["samples"]
    while left > 0:
        left -= 1
        label = draw(item, forbidden)
        best = best or label
        if not checks or label is None:
            continue
        verdict = policy.tool("verify", {"output": {"label": label}})
        if verdict["accepted"]:
            if best_value is None or verdict["value"] > best_value:
                best, best_value = label, verdict["value"]
        elif repairs > 0:
            repairs, left = repairs - 1, left + 1
            forbidden.add(label)
    if best is not None:
        answer({"label": best})


main()
