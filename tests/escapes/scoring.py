"""A probe that is after its grade rather than the host: run as a scaffold by the real runner, graded by a real task.

The agent never answers honestly, so that any grade above the worst is an escape; so is a runner that raises, or that
leaves something behind. Without a sandbox, a harness that believes what such harnesses were seen to believe stands in
for it (`verdict` of the probe).
"""

import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pawl.core import ArtifactStore, PawlError, RolloutStop, Sampling, Trajectory, Version

from .arena import HERE

if TYPE_CHECKING:
    from .arena import Arena

_AGENT = """
import json, os, sys
sys.argv = ["", os.path.join(os.environ["PAWL_SCAFFOLD"], "probe.py"), ""]
with open("item.json") as file:
    item = json.load(file)
sys.argv[2] = json.dumps({"work": os.getcwd(), "guarded": True, **item["payload"]})
sys.path.insert(0, os.environ["PAWL_SCAFFOLD"])
import inside
inside.main()
"""


async def score(name: str, module: ModuleType, arena: "Arena") -> tuple[list[str], dict[str, str]]:
    """Run a probe as a scaffold, once for each variant; returns facts and what the attack says."""
    from pawl.evals.labels import LabelsTask
    from pawl.evals.task import Split
    from pawl.serving.policy import Endpoint
    from pawl.serving.runner import Rollout, RolloutLimits, run_rollouts

    store = ArtifactStore(arena.host / "artifacts")
    files = {"inside.py": HERE / "inside.py", "probe.py": HERE / "probes" / f"{name}.py"}
    tree = {
        "agent.py": _AGENT.encode(),
        "scaffold.json": b"{}",
        **{key: path.read_bytes() for key, path in files.items()},
    }
    version = Version(scaffold=store.put_tree(tree), base_model="base", sampling=Sampling())
    task: Any = LabelsTask(None)  # pyright: ignore[reportArgumentType]
    [item] = task.items(Split.OPTIMISE, 0, 1)
    variants = range(getattr(module, "VARIANTS", 1))
    rollouts = [Rollout(version, item.id, {**item.payload, "variant": n}, seed=n, task="labels") for n in variants]
    work = arena.host / "rollouts"
    try:
        trajectories = await run_rollouts(
            rollouts,
            store=store,
            endpoint=Endpoint(base_url="http://127.0.0.1:9/v1", base_model="base"),
            sandbox=arena.sandbox,
            work=work,
            limits=RolloutLimits(sandbox=arena.limits.model_copy(update={"wall_seconds": 10})),
        )
    except (Exception, ExceptionGroup) as error:
        if isinstance(error, PawlError) and "sandbox" in type(error).__name__.lower():
            raise
        return [f"the runner raised {type(error).__name__}: {error}"[:300]], {}
    facts = [f"{len(list(work.iterdir()))} folders were left"] if any(work.iterdir()) else []
    for variant, trajectory in zip(variants, trajectories, strict=True):
        grade = await task.grade(item, trajectory.output)
        if grade.valid or grade.value > task.metric.worst:
            facts.append(f"variant {variant} was graded {grade.value}")
        facts += getattr(module, "recorded", lambda trajectory: [])(trajectory)
    return facts, {f"variant {n}": _words(trajectory) for n, trajectory in zip(variants, trajectories, strict=True)}


def _words(trajectory: Trajectory) -> str:
    said = (
        trajectory.error or json.dumps(trajectory.output) if trajectory.stop is not RolloutStop.ANSWERED else "answered"
    )
    return f"{trajectory.stop}: {said}"[-300:]
