"""A supervised job from its run dir to its adapter: `train` is to it what `loop.train` is to a policy gradient."""

from ...safety.telemetry.jobs import JobSpan, JobSpans
from ..course import Course
from ..job import JobStatus
from ..objectives import Preference
from ..policy import load_policy
from ..rundir import RunDir
from ..trl_runs import run_to_end
from .batches import check_tokens, order
from .preference import compared, preference_trainer
from .sft import cloned, cloning_trainer


def train(run: RunDir, spans: JobSpans | None = None) -> JobStatus:
    """Train the run dir's job to its end, from its last complete checkpoint, and return the final status.

    The caller holds the run dir's lock. The same job and datums give the same adapter bytes on the same machine,
    however often the process is killed on the way. A step learns from `job.minibatch` datums, or from half as many
    pairs.

    Args:
        run: the run dir.
        spans: takes the times of its parts, for the campaign's trace.

    Raises:
        ConfigurationError: the job or its datums can't be used, or its run dir belongs to others.
        NotFound: there is no job.
    """
    job = run.job()
    datums = run.datums()
    compare = isinstance(job.objective, Preference)
    examples = compared(datums) if compare else cloned(datums)
    course = Course(run, job, run.data_digest(), spans)
    with course.spans.span(JobSpan.LOAD):
        policy = load_policy(job)
    check_tokens(datums, policy.vocabulary)
    steps = order(job, len(examples), (job.minibatch + 1) // 2 if compare else job.minibatch)
    course.begin(len(steps))
    if course.step < len(steps) and not course.cancelled:
        if isinstance(job.objective, Preference):
            trainer = preference_trainer(course, policy, examples, steps, job.objective)
        else:
            trainer = cloning_trainer(course, policy, examples, steps)
        run_to_end(trainer, course, policy)
    elif course.checkpoint is not None:
        policy.load(course.checkpoint)
    return course.end(policy.save_adapter)
