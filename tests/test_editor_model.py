"""The model-backed editor replaces files only by what passes every check.

The chat models here are doubles for a paid endpoint: they say what the test scripts.
"""

import json

import pytest

from pawl.core import digest_tree
from pawl.evals.scaffold import FILE, Mode, ScaffoldConfig
from pawl.nodes.decision import Decision, Diagnosis, Lever, Operator
from pawl.nodes.editor import Edit
from pawl.nodes.editor_model import MOST_BYTES, ModelEditor

from .feedback_fixtures import evidence, pulled, refused_at_limits, rollouts
from .test_feedback_model import Scripted, scripted

TREE = {
    "agent.py": b"print('hello')\n",
    FILE: ScaffoldConfig(mode=Mode.SOURCE).model_dump_json().encode(),
    "logo.bin": b"\xff\x00",
}
DECISION = Decision(lever=Lever.SCAFFOLD, diagnosis=Diagnosis.REFUSED, reason="planted")
GIVEN = evidence(rollouts(refused_at_limits), capable=True)


def files(**named: str) -> dict[str, object]:
    made = [{"path": path.replace("__", "/").replace("_py", ".py"), "content": text} for path, text in named.items()]
    return {"summary": "Better.", "files": made}


async def edited(chat: Scripted) -> Edit:
    return await ModelEditor(chat).edit(TREE, DECISION, GIVEN, 1)


async def test_whole_files_are_replaced_and_the_rest_stays() -> None:
    edit = await edited(scripted(files(agent_py="print('better')\n", parts__hints_py="HINTS = []\n")))
    assert edit.operator is Operator.FILES
    tree = edit.apply(TREE)
    assert tree["agent.py"] == b"print('better')\n"
    assert tree["parts/hints.py"] == b"HINTS = []\n"
    assert tree["logo.bin"] == TREE["logo.bin"]
    assert "-print('hello')\n+print('better')" in edit.diff
    assert "--- /dev/null\n+++ b/parts/hints.py" in edit.diff


async def test_the_model_sees_every_file_and_why_it_is_asked() -> None:
    chat = scripted(files(agent_py="x = 1\n"))
    await edited(chat)
    assert "print('hello')" in chat.asked[0]
    assert "planted" in chat.asked[0]
    assert '"logo.bin": 2 bytes that are no text' in chat.asked[0]


BAD: dict[str, dict[str, object]] = {
    "outside": {"summary": "", "files": [{"path": "../x.py", "content": ""}]},
    "absolute": {"summary": "", "files": [{"path": "/etc/passwd", "content": ""}]},
    "odd form": {"summary": "", "files": [{"path": "./agent.py", "content": "x = 1"}]},
    "empty": {"summary": "", "files": []},
    "twice": {"summary": "", "files": [{"path": "a.txt", "content": "1"}, {"path": "a.txt", "content": "2"}]},
    "no python": files(agent_py="def f(:\n"),
    "null byte": files(agent_py="x = 1\0"),
    "deep python": files(agent_py="(" * 5000),
    "bad typed part": {"summary": "", "files": [{"path": FILE, "content": '{"mode": "magic"}'}]},
    "bad json": {"summary": "", "files": [{"path": "x.json", "content": "{"}]},
    "too big": files(agent_py="#" * (MOST_BYTES + 1)),
    "too many": {"summary": "", "files": [{"path": f"{n}.txt", "content": "x"} for n in range(9)]},
    "no change": files(agent_py="print('hello')\n"),
    "below a file": {"summary": "", "files": [{"path": "agent.py/x.txt", "content": "x"}]},
}


@pytest.mark.parametrize("name", sorted(BAD))
async def test_a_bad_edit_is_repaired_once_and_then_left_to_the_typed_operators(name: str) -> None:
    good = files(agent_py="x = 2\n")
    repaired = scripted(BAD[name], good)
    assert (await edited(repaired)).files == {"agent.py": "x = 2\n"}
    assert "can't be used" in repaired.asked[1]
    edit = await edited(scripted(BAD[name], BAD[name], good))
    assert edit.operator is Operator.PRUNE
    assert "language model gave no usable edit" in edit.summary


async def test_a_former_candidate_is_not_accepted_again() -> None:
    again = files(agent_py="x = 2\n")
    tried = digest_tree({**TREE, "agent.py": b"x = 2\n"})
    given = GIVEN.model_copy(update={"history": [pulled(1, Lever.SCAFFOLD, operator=Operator.FILES, scaffold=tried)]})
    edit = await ModelEditor(scripted(again, again)).edit(TREE, DECISION, given, 1)
    assert edit.operator is not Operator.FILES


async def test_an_edit_survives_json() -> None:
    edit = await edited(scripted(files(agent_py="x = 3\n")))
    assert Edit.model_validate(json.loads(edit.model_dump_json())) == edit
