"""The builder wires plug-in nodes where they say, and refuses what can't be wired."""

from typing import Any

import pytest
from typing_extensions import TypedDict

from pawl.core import ConfigurationError
from pawl.graph.builder import build_graph, fingerprint, make_graph, ways
from pawl.nodes.house import HOUSE
from pawl.nodes.spec import Need, NodeSpec


class Own(TypedDict, total=False):
    acme_count: int


async def count(state: Any, runtime: Any) -> Any:
    return {"acme_count": 1}


def spec(**changes: Any) -> NodeSpec:
    given = {
        "name": "acme",
        "run": count,
        "after": "evaluator",
        "before": "feedback_agent",
        "state": Own,
        "writes": ("acme_count",),
    }
    return NodeSpec(**{**given, **changes})


def test_a_node_is_put_on_the_way_between_its_neighbours():
    table = ways([spec()])
    assert table["evaluator"] == ["acme"]
    assert table["acme"] == ["feedback_agent"]


def test_a_node_on_a_conditional_way_keeps_the_condition():
    table = ways([spec(after="gauntlet", before="shadow")])
    assert table["gauntlet"] == ["acme", "discard"]
    build_graph([spec(after="gauntlet", before="shadow")]).compile()


def test_a_second_node_on_the_same_way_runs_behind_the_first():
    second = spec(name="acme_two", state=None, writes=())
    table = ways([spec(), second])
    assert table["evaluator"] == ["acme"]
    assert table["acme"] == ["acme_two"]
    assert table["acme_two"] == ["feedback_agent"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "evaluator"}, "Two nodes are called 'evaluator'"),
        ({"writes": ("acme_count", "nowhere")}, "unknown state keys nowhere"),
        ({"reads": ("nowhere",)}, "unknown state keys nowhere"),
        ({"after": "nobody"}, "there is no node 'nobody'"),
        ({"after": "gate", "before": "task_agent"}, "no way leads from the one to the other"),
        ({"after": "", "before": ""}, "is not wired"),
        ({"needs": (Need.JUDGE,)}, "reserved to gauntlet"),
        ({"needs": (Need.CHANNELS,)}, "reserved to promoter, rollback"),
        ({"run": lambda state, runtime: {}}, "must be `async def"),
    ],
)
def test_what_cannot_be_wired_is_refused_with_the_reason(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError, match=message):
        build_graph([spec(**changes)])


def test_two_owners_of_one_key_are_refused():
    with pytest.raises(ConfigurationError, match="which the node 'acme' owns"):
        build_graph([spec(), spec(name="other")])

    class Taken(TypedDict, total=False):
        live: str

    with pytest.raises(ConfigurationError, match="which the house owns"):
        build_graph([spec(state=Taken, writes=())])


def test_the_fingerprint_changes_with_nodes_and_keys_and_with_nothing_else():
    assert fingerprint() == fingerprint()
    assert fingerprint([spec()]) != fingerprint()
    assert fingerprint([spec()]) != fingerprint([spec(name="renamed")])
    assert fingerprint([spec()]) == fingerprint([spec(retry=None)])


def test_the_server_entry_compiles_without_a_saver():
    graph = make_graph()
    assert set(graph.get_graph().nodes) >= {each.name for each in HOUSE}
    assert graph.checkpointer is None
