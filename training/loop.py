"""The loop of the policy gradients: from a run dir to an adapter, a minibatch a step, resumable after a checkpoint."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shutil import rmtree

from ..core import ConfigurationError
from ..core.faults import point
from ..safety.telemetry.jobs import JobSpan, JobSpans
from .adapter import save_adapter
from .course import Course
from .critic import Critic
from .datums import Datum
from .job import JobStatus, TrainJob
from .learner import Learner
from .minibatches import batch_at, consumed, minibatches
from .objectives import PPO, Anchor, PolicyGradient
from .optimiser import Optimiser
from .prepared import Prepared, prepare, prepare_ppo
from .ranks import ALONE, Ranks
from .rundir import RunDir, publish
from .step import take_step


def train(run: RunDir, spans: JobSpans | None = None, ranks: Ranks = ALONE) -> JobStatus:
    """Train the run dir's job to its end, from its last complete checkpoint, and return the final status.

    The caller holds the run dir's lock. The same job and datums give the same adapter bytes on the same machine,
    however often the process is killed on the way: what a step rests on is the checkpoint before it, and what derives
    from the job and its datums alone (the order of the steps; for PPO the values and advantages at the job's start).

    Args:
        run: the run dir.
        spans: takes the times of its parts, for the campaign's trace.
        ranks: the processes that train it together, each of which calls this.

    Raises:
        ConfigurationError: the job or its datums can't be used, or its run dir belongs to others.
        NotFound: there is no job.
    """
    job = run.job()
    datums = run.datums()
    objective = check(job, datums)
    course = Course(run, job, run.data_digest(), spans, leads=ranks.leads)
    with course.spans.span(JobSpan.LOAD):
        learner = Learner(job)
    _check_tokens(datums, learner.vocabulary)
    batches = minibatches(job, datums)
    critic: Critic | None = None
    ready: list[list[Prepared] | None] = [None] * len(batches)
    if isinstance(objective, PPO):
        critic, prepared = prepare_ppo(learner, job, objective, batches)
        ready = [ranks.share(packs) for packs in prepared]
    elif objective.loss.anchor is Anchor.START:
        ready = [prepare(learner, job, ranks.share(batch.packs)) for batch in batches]
    groups = [(job.learning_rate, learner.masters)]
    if critic is not None and isinstance(objective, PPO):
        groups.append((objective.value_learning_rate, critic.parameters))
    optimiser = Optimiser(groups, job.max_grad_norm)
    if course.checkpoint is not None:
        learner.load(course.checkpoint / "adapter")
        optimiser.load(course.checkpoint)
        if critic is not None:
            critic.restore(course.checkpoint / "critic")
    write = partial(_checkpoint, learner, critic, optimiser)
    total = job.epochs * len(batches)
    course.begin(total)
    while course.step < total and not ranks.agree(course.cancelled):
        place = batch_at(job, len(batches), course.step)
        with course.spans.span(JobSpan.STEP, step=course.step):
            packs = ready[place] = ready[place] or prepare(learner, job, ranks.share(batches[place].packs))
            metrics = take_step(learner, critic, optimiser, objective, batches[place], packs, ranks)
        course.stepped(metrics, consumed(job, batches, course.step + 1), write)
    if critic is not None and course.step == total and ranks.leads:
        _publish_critic(run, critic)
    return course.end(lambda folder: save_adapter(folder, learner.spec, learner.state()))


def check(job: TrainJob, datums: Sequence[Datum]) -> PolicyGradient:
    """Refuse what can't be learned from, and return the objective.

    Raises:
        ConfigurationError: no datums, none that says anything, an objective that this loop doesn't have, or a base
            model that isn't there.
    """
    objective = job.objective
    if not isinstance(objective, PolicyGradient):
        raise ConfigurationError(f"The objective {objective.kind} is supervised: expected one with a policy gradient.")
    if not datums:
        raise ConfigurationError("No datums: expected at least one. Every rollout was refused, or none was written.")
    if isinstance(objective, PPO):
        without = sum(datum.rewards is None for datum in datums)
        if without:
            raise ConfigurationError(
                f"{without} of {len(datums)} datums have no rewards: PPO estimates advantages of them. "
                "Make the datums by training.dataset for this objective."
            )
    elif not any(value * datum.weight for datum in datums for value in datum.advantages):
        raise ConfigurationError(
            f"All advantages of the {len(datums)} datums are 0: nothing to learn. "
            "Every group's rewards are equal, or within the resolution of each other; get rollouts that differ."
        )
    if job.init_critic is not None and not isinstance(objective, PPO):
        raise ConfigurationError(f"The objective {objective.kind} has no value head, but init_critic names one.")
    if not (job.base_model_dir / "config.json").is_file():
        raise ConfigurationError(f"No base model in {job.base_model_dir}: expected a folder with config.json.")
    return objective


def _check_tokens(datums: Sequence[Datum], vocabulary: int) -> None:
    for datum in datums:
        largest = max(max(datum.tokens), max((max(ids) for ids in datum.allowed if ids), default=0))
        if largest >= vocabulary or min(datum.tokens) < 0:
            raise ConfigurationError(
                f"A datum of group {datum.group_id!r} has token id {largest}, the base model {vocabulary} tokens. "
                "The rollouts were sampled from another model."
            )


def _checkpoint(learner: Learner, critic: Critic | None, optimiser: Optimiser, folder: Path) -> None:
    save_adapter(folder / "adapter", learner.spec, learner.state())
    optimiser.save(folder)
    if critic is not None:
        critic.save(folder / "critic")


def _publish_critic(run: RunDir, critic: Critic) -> None:
    temporary = run.path / ".tmp-critic"
    for leftover in (temporary, run.critic):
        rmtree(leftover, ignore_errors=True)
    critic.save(temporary)
    publish(temporary, run.critic)
    point("training.critic")
