"""A third-party package adds a node and a task by entry point; one that can't be loaded warns and names itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "plugin_package"
EXAMPLE = Path(__file__).parent.parent / "examples" / "custom_node.py"

LOOK = """
import json, warnings
from pathlib import Path
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from pawl.evals import TaskEnvironment, load_task, task_names
    from pawl.graph.builder import ways
    from pawl.graph.plugins import plugin_nodes
    nodes = plugin_nodes()
    task = load_task("acme_echo", TaskEnvironment(sandbox=None, cache=Path(".")))
print(json.dumps({
    "nodes": [spec.name for spec in nodes],
    "ways": ways(nodes)["evaluator"],
    "tasks": task_names(),
    "task": task.name,
    "warnings": [str(each.message) for each in said],
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it, in a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "acme"
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--no-index", "--target", str(target), str(source)], check=True)
    return target


def look(site: Path, cwd: Path) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_an_installed_package_adds_its_node_and_its_task(site: Path, tmp_path: Path):
    found = look(site, tmp_path)
    assert found["nodes"] == ["acme_audit"]
    assert found["ways"] == ["acme_audit"]
    assert "acme_echo" in found["tasks"]
    assert found["task"] == "acme_echo"


def test_a_package_that_does_not_load_warns_and_names_itself(site: Path, tmp_path: Path):
    [warning] = look(site, tmp_path)["warnings"]
    assert "acme_broken" in warning
    assert "acme-pawl" in warning
    assert "left out" in warning


def test_the_example_is_short_and_wires_its_node_with_a_key_of_its_own():
    assert len(EXAMPLE.read_text().splitlines()) <= 30
    space: dict[str, object] = {"__name__": "example"}
    exec(compile(EXAMPLE.read_text(), str(EXAMPLE), "exec"), space)
    from pawl.graph.builder import build_graph, ways

    spec = space["ALARM"]
    assert ways([spec])["evaluator"] == ["acme_alarm"]  # type: ignore[list-item]
    graph = build_graph([spec]).compile()  # type: ignore[list-item]
    assert "acme_alarm" in graph.get_graph().nodes
