# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportPrivateImportUsage=false
"""Behavioural cloning of the kept rollouts, by TRL's `SFTTrainer`.

The loss is the mean cross-entropy of the tokens that the policy chose, weighted by their datums' weights; prompts and
forced tokens count nothing. It is over the whole vocabulary also where a choice was masked to a few tokens: a clone is
to do what it was shown, and mass that moves from outside a mask onto the shown token does no harm inside it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from trl import SFTConfig, SFTTrainer

from ...core import ConfigurationError
from ..course import Course
from ..datums import Datum
from ..policy import Policy
from ..trl_runs import common_arguments, common_objects, token_ids_only
from .batches import Example, Steps, consumed, row, summed


def cloned(datums: Sequence[Datum]) -> list[Example]:
    """What there is to imitate.

    Raises:
        ConfigurationError: none, or a datum that isn't marked as one to imitate.
    """
    for datum in datums:
        odd = [value for value, chosen in zip(datum.advantages, datum.mask, strict=True) if value != chosen]
        if odd:
            raise ConfigurationError(
                f"A datum of group {datum.group_id!r} has advantage {odd[0]}: one that is imitated has 1 where the "
                "policy chose, and 0 elsewhere. Choose rollouts by pawl.training.supervised.select.best_datums."
            )
    examples = [
        Example((row([datum]),), datum.weight, datum.weight * datum.decisions, 1)
        for datum in datums
        if datum.weight * datum.decisions > 0
    ]
    if not examples:
        raise ConfigurationError(
            f"Nothing to imitate among {len(datums)} datums: no group has a rollout that beats its worst, or that "
            "reaches the threshold. Get rollouts that differ, or lower the threshold."
        )
    return examples


def cloning_trainer(
    course: Course, policy: Policy, examples: Sequence[Example], order: Sequence[Sequence[int]]
) -> SFTTrainer:
    """The trainer of the steps that are left.

    Args:
        course: of the job.
        policy: with the weights that the job starts from.
        examples: of one row each.
        order: the examples of every step of the job.
    """
    steps = Steps(examples, order, course.step, course.job.pack_tokens)
    arguments = SFTConfig(
        **common_arguments(course, policy, len(steps)),
        dataset_kwargs={"skip_prepare_dataset": True},
        loss_type="nll",
        max_length=None,
    )
    rows = [{"input_ids": example.rows[0].tokens, "labels": example.rows[0].labels} for example in examples]
    return _CloningTrainer(
        steps,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=token_ids_only(),
        data_collator=list,  # the steps are batches already
        **common_objects(course, policy, consumed(examples, order)),
    )


class _CloningTrainer(SFTTrainer):
    """TRL's trainer over our own steps: one optimiser step is the sum of its passes, each by its share."""

    def __init__(self, steps: Steps, **arguments: Any) -> None:
        self._steps = steps
        super().__init__(**arguments)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self._steps.loader()

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        return summed(partial(super().training_step, model), inputs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None) -> Any:
        share = inputs.pop("share")
        return share * super().compute_loss(model, inputs)

    def floating_point_ops(self, inputs) -> int:
        return 0
