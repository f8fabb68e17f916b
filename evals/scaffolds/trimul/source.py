"""Mode `source`: write modules, have them verified, repair or improve the better ones. Standard library only.

Several starts, pruned early, since early progress predicts the end (successive halving):

1. `samples` lines begin, each from a kernel of its own as far as there are some, and each gives one answer.
2. The better half of the lines goes on, rounded up: those whose best accepted answer is worth most; a line without one
   comes last; of equals the earlier one goes on. Each of them gives one more answer: a repair of what was rejected, or
   an improvement of its best.
3. This is repeated until one line is left, and that one goes on. All lines share `repairs` and `improvements`; a line
   that would need one that is used up gives no more answers.

The answer is the best that was accepted, or else the last of the line that is left.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from string import Template

from client import PolicyError

HERE = Path(os.environ["PAWL_SCAFFOLD"])
USED_UP = 429
"""Status of a request beyond the rollout's limits."""


def read(name):
    """A file of the scaffold, empty where there is none."""
    path = HERE / name
    return path.read_text() if path.is_file() else ""


def fill(name, **parts):
    """A template with its parts, each as it is; a line that only holds a part that is empty goes."""
    empty = {f"${part}" for part, text in parts.items() if not text}
    lines = [line for line in read(name).splitlines() if line.strip() not in empty]
    return Template(re.sub(r"\n{3,}", "\n\n", "\n".join(lines))).safe_substitute(parts).strip()


def digest_of(source):
    """A kernel's identity."""
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()


# --- words ---


def assignment(variant):
    """What a variant is, in words."""
    words = json.loads(read("words.json") or "{}")
    named = {**variant["parameters"], "distribution": variant["distribution"], "precision": variant["precision"]}
    said = [words.get(name, {}).get(str(value).lower(), f"{name} = {value}") for name, value in named.items()]
    return "; ".join(said) + "."


def worth(kernel):
    """What a kernel is known to be worth."""
    said = []
    if kernel.get("value") is not None:
        said.append(f"It is worth {kernel['value']:.3f}, the logarithm of its speed-up over the seed kernel.")
    if kernel.get("time_us") is not None:
        said.append(f"It takes {kernel['time_us']:,.1f} us.")
    if kernel.get("variant") is not None:
        said.append(f"That was at this assignment: {assignment(kernel['variant'])}")
    if kernel.get("rejected"):
        said.append(f"At your assignment the verifier rejects it: {'; '.join(kernel['rejected'])}")
    return " ".join(said)


def breakdown(launches):
    """Where the time goes, a line a launch."""
    if not launches:
        return ""
    whole = sum(each["time_us"] for each in launches)
    return "\n".join(["Where its time goes:", *(f"- {launch_words(each, whole)}" for each in launches)])


def launch_words(launch, whole):
    """One launch, or torch operator, of a run."""
    share = f" ({100 * launch['time_us'] / whole:.0f} %)" if whole else ""
    said = [f"{launch['kernel']}: {launch['time_us']:,.1f} us{share}, waits for {launch['bound']}"]
    if launch.get("programs"):
        said.append(f"{launch['programs']} programs")
    parts = launch.get("breakdown_us")
    if parts:
        said.append("us by part: " + ", ".join(f"{name} {time:,.1f}" for name, time in parts.items()))
    if launch.get("resources"):
        said.append(", ".join(f"{name} {amount}" for name, amount in launch["resources"].items()))
    return "; ".join(said)


def code_of(text):
    """The longest fenced block, of those that define the entry point if any does; the whole text without a fence."""
    blocks = re.findall(r"```[a-zA-Z0-9_+-]*[ \t]*\n(.*?)(?:```|\Z)", text, flags=re.DOTALL)
    blocks = [block for block in blocks if "def custom_kernel" in block] or blocks
    return max(blocks, key=len) if blocks else text


# --- what to begin from ---


def known(payload, config):
    """The kernels to begin from, and the best ones to show; the scaffold's own where the item brings none."""
    if payload.get("starts"):
        return payload["starts"], payload.get("best", [])
    shown = []
    for exemplar in sorted(config["exemplars"], key=lambda each: -each["grade"]):
        source = source_in(exemplar["output"])
        if source is not None:
            variant = exemplar["payload"].get("variant")
            shown.append(
                {"digest": digest_of(source), "source": source, "value": exemplar["grade"], "variant": variant}
            )
    seed = read("seed.py")
    starts = shown or ([{"digest": digest_of(seed), "source": seed}] if seed else [])
    return starts, shown


def source_in(output):
    """The module that an exemplar's output holds, or none."""
    try:
        value = json.loads(output)
    except ValueError:
        return output
    return value.get("source") if isinstance(value, dict) else None


# --- the search ---


class Line:
    """One line of development: what it began from, and what came of it."""

    def __init__(self, number, start):
        """Begin without an answer."""
        self.number, self.start = number, start
        self.parent = start["digest"] if start else None
        self.question, self.text, self.source, self.verdict, self.best = None, None, None, None, None

    def rank(self):
        """For sorting: the best first."""
        return (-self.best["value"] if self.best else float("inf"), self.number)


class Search:
    """The lines of one rollout, and what they share."""

    def __init__(self, payload, config, policy):
        """Begin; nothing is asked yet."""
        self.payload, self.config, self.policy = payload, config, policy
        settings = json.loads(read("search.json") or "{}")
        self.repairs, self.improvements = config["repairs"], settings.get("improvements", 0)
        self.checks = config["samples"] > 1 or self.repairs > 0 or self.improvements > 0
        self.verdicts = {}
        starts, self.shown = known(payload, config)
        starts, self.others = starts or [None], settings.get("others", 0)
        self.lines = [Line(number, starts[number % len(starts)]) for number in range(config["samples"])]

    def question(self, start):
        """The first message: the task, the contract, the assignment, the device, what to begin from."""
        if start is not None and self.checks and not start.get("launches"):
            start = self.measured(start)
        others = [each for each in self.shown if start is None or each["digest"] != start["digest"]]
        return fill(
            "question.txt",
            task="\n\n".join(text for _, text in sorted(self.config["prompt"].items()) if text),
            contract=self.payload["contract"],
            assignment=assignment(self.payload["variant"]),
            device=read("device.txt"),
            start=self.kernel("start.txt", start) if start is not None else "",
            others="\n\n".join(self.kernel("other.txt", each) for each in others[: self.others]),
        )

    def kernel(self, template, kernel):
        """A kernel with its worth and its breakdown."""
        told = breakdown(kernel.get("launches", []))
        return fill(template, worth=worth(kernel), breakdown=told, source=kernel["source"].strip())

    def measured(self, start):
        """A start of which it isn't known where its time goes, with what the verifier says of it here."""
        if start["digest"] not in self.verdicts:
            self.verdicts[start["digest"]] = self.verify(start["source"], start["digest"])
        verdict = self.verdicts[start["digest"]]
        if verdict.get("accepted") is None:
            return start
        told = {name: verdict.get(name) for name in ("value", "time_us", "launches") if verdict["accepted"]}
        rejected = None if verdict["accepted"] else verdict.get("reasons", [])
        return {**start, **told, "launches": told.get("launches") or [], "rejected": rejected, "variant": None}

    def verify(self, source, parent):
        """The verifier's answer on a module."""
        output = {"source": source} if parent is None else {"source": source, "parent": parent}
        return self.policy.tool("verify", {"output": output})

    def ask(self, line, messages):
        """Have a line give an answer, and have that verified."""
        line.text = self.policy.chat(messages, temperature=self.config["temperature"])
        line.source = code_of(line.text)
        if not self.checks:
            return
        line.verdict = None
        line.verdict = self.verify(line.source, line.parent)
        value = line.verdict.get("value")
        if line.verdict.get("accepted") and (line.best is None or value > line.best["value"]):
            line.best = {**line.verdict, "source": line.source, "text": line.text, "parent": line.parent}

    def begin(self, line):
        """A line's first answer."""
        line.question = self.question(line.start)
        self.ask(line, [{"role": "user", "content": line.question}])

    def go_on(self, line):
        """A line's next answer; false if there is nothing left to give it."""
        verdict = line.verdict or {}
        if not verdict.get("accepted"):
            if self.repairs == 0:
                return False
            self.repairs -= 1
            said, text = self.refusal(verdict), line.text
        else:
            if self.improvements == 0:
                return False
            self.improvements -= 1
            best = line.best
            told = breakdown(best.get("launches", []))
            said, text = fill("improve.txt", worth=worth(best), breakdown=told), best["text"]
            line.parent = digest_of(best["source"])
        turns = [("user", line.question), ("assistant", text), ("user", said)]
        self.ask(line, [{"role": role, "content": content} for role, content in turns])
        return True

    def refusal(self, verdict):
        """What went wrong: the verifier's and the compiler's words, how far off it was, what it takes."""
        mismatch = verdict.get("mismatch") or {}
        off = ", ".join(f"{name} {value}" for name, value in mismatch.items())
        return fill(
            "repair.txt",
            reasons="\n".join(f"- {reason}" for reason in verdict.get("reasons", [])) or "- it could not be checked",
            mismatch=f"How far off it was: {off}" if off else "",
            resources=breakdown(verdict.get("launches", [])),
        )

    def run(self):
        """Follow the rule; limits that are used up end the search with what there is."""
        going = list(self.lines)
        try:
            for line in going:
                self.begin(line)
            while self.checks:
                going.sort(key=Line.rank)
                going = going[: (len(going) + 1) // 2]
                if not [line for line in going if self.go_on(line)]:
                    break
        except PolicyError as error:
            if error.status != USED_UP or all(line.source is None for line in self.lines):
                raise
        best = min(self.lines, key=Line.rank).best
        left = next(line for line in (*going, *self.lines) if line.source is not None)
        return best or {"source": left.source, "parent": left.parent}


def answer_source(payload, config, policy):
    """Search, and answer with the best."""
    found = Search(payload, config, policy).run()
    parent = {} if found["parent"] is None else {"parent": found["parent"]}
    return {"source": found["source"], **parent}
