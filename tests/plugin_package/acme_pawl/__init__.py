"""A third-party package: one node, one task."""

from typing_extensions import TypedDict

from pawl.core import Grade
from pawl.evals.task import Direction, Item, Metric, Split
from pawl.nodes import NodeSpec


class Audit(TypedDict, total=False):
    acme_audited: int


async def audit(state, runtime):
    return {"acme_audited": state["evaluation"].rollouts}


AUDIT = NodeSpec(
    name="acme_audit",
    run=audit,
    after="evaluator",
    before="feedback_agent",
    state=Audit,
    reads=("evaluation",),
    writes=("acme_audited",),
)


class EchoTask:
    """Say the word; no model is needed."""

    name = "acme_echo"
    metric = Metric(name="echoed", unit="", direction=Direction.MAXIMISE, worst=0.0, best=1.0, margin=0.1)

    def __init__(self, environment):
        pass

    def items(self, split, seed, count, start=0):
        return [
            Item(id=f"{split}-{seed}-{n}", task=self.name, split=Split(split), slice="all", payload={"word": f"w{n}"})
            for n in range(start, start + count)
        ]

    def seed_scaffold(self, capable):
        agent = (
            "import json\n"
            "word = json.load(open('item.json'))['payload']['word']\n"
            "json.dump({'output': word}, open('output.json', 'w'))\n"
        )
        return {"agent.py": agent.encode(), "scaffold.json": b"{}"}

    def tools(self, item):
        return []

    async def grade(self, item, output):
        return Grade(value=1.0 if output == item.payload["word"] else 0.0, valid=output is not None)

    async def perturb(self, item, output):
        return await self.grade(item, output)

    def cheats(self, item, output, grade):
        return []

    async def close(self):
        pass
