"""A node of one's own, between evaluator and feedback_agent, with a state key of its own.

Run it: python examples/custom_node.py
"""

from typing_extensions import TypedDict

from pawl.graph import Session
from pawl.nodes import CampaignRules, NodeRuntime, NodeSpec, State


class Alarm(TypedDict, total=False):
    acme_alarm: bool


async def alarm(state: State, runtime: NodeRuntime) -> Alarm:
    return {"acme_alarm": state["evaluation"].valid == 0}


ALARM = NodeSpec(
    name="acme_alarm", run=alarm, after="evaluator", before="feedback_agent",
    state=Alarm, reads=("evaluation",), writes=("acme_alarm",),
)  # fmt: skip

if __name__ == "__main__":
    with Session.sync(".pawl", nodes=[ALARM]) as session:
        print(session.start("labels", rules=CampaignRules(rounds=1)).status)
