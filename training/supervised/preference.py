# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false
"""Direct preference optimisation on ranked pairs, by TRL's `DPOTrainer`.

``L = -log sigmoid(beta (log pi(y_w)/pi_ref(y_w) - log pi(y_l)/pi_ref(y_l)))`` (Rafailov et al. 2023, arXiv 2305.18290,
equation 7), the weighted mean over a step's pairs. The log-probability of a rollout is the sum over the tokens that
the policy chose, over all its sequences. The reference is the policy that the job starts from: the base, or the base
with the adapter that the job goes on from.

Log-probabilities are over the whole vocabulary and at temperature 1, also where a choice was masked to a few tokens.
The mass of the allowed tokens is then a factor of both policies; where both rollouts make a choice in the same context
it cancels out of the difference, elsewhere it is part of what is learned.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from trl import DPOConfig, DPOTrainer

from ...core import ConfigurationError
from ..course import Course
from ..datums import Datum
from ..objectives import Preference
from ..policy import Policy
from ..trl_runs import common_arguments, common_objects, token_ids_only
from .batches import IGNORED, Example, Steps, consumed, row, summed


def compared(datums: Sequence[Datum]) -> list[Example]:
    """The pairs: datums of one group, advantage 1 on the better side and -1 on the worse one.

    Raises:
        ConfigurationError: no pair, one with a side missing, or datums that aren't marked as sides of a pair.
    """
    groups: dict[str, dict[float, list[Datum]]] = {}
    for datum in datums:
        found = {value for value, chosen in zip(datum.advantages, datum.mask, strict=True) if chosen}
        if found not in ({1.0}, {-1.0}):
            raise ConfigurationError(
                f"A datum of group {datum.group_id!r} has advantages {sorted(found)}: one side of a pair has 1, the "
                "other -1, where the policy chose. Make pairs by pawl.training.supervised.select.pair_datums."
            )
        groups.setdefault(datum.group_id, {}).setdefault(found.pop(), []).append(datum)
    examples = [example for name, sides in groups.items() if (example := _pair(name, sides)).weight > 0]
    if not examples:
        raise ConfigurationError(
            f"No pair to learn from among {len(datums)} datums: all rewards of every group are ties. Get rollouts "
            "that differ by more than the resolution."
        )
    return examples


def _pair(name: str, sides: dict[float, list[Datum]]) -> Example:
    if len(sides) < 2:
        raise ConfigurationError(
            f"The pair {name!r} has no {'worse' if 1.0 in sides else 'better'} side. Make pairs by "
            "pawl.training.supervised.select.pair_datums."
        )
    weights = {datum.weight for side in sides.values() for datum in side}
    if len(weights) > 1:
        raise ConfigurationError(
            f"The datums of the pair {name!r} have weights {sorted(weights)}: expected one weight, of the pair."
        )
    weight = weights.pop()
    return Example((row(sides[1.0]), row(sides[-1.0])), weight, weight, len(sides[1.0]) + len(sides[-1.0]))


def preference_trainer(
    course: Course,
    policy: Policy,
    examples: Sequence[Example],
    order: Sequence[Sequence[int]],
    settings: Preference,
) -> DPOTrainer:
    """The trainer of the steps that are left.

    Args:
        course: of the job.
        policy: with the weights that the job starts from, which become the reference.
        examples: of two rows each.
        order: the examples of every step of the job.
        settings: beta.
    """
    steps = Steps(examples, order, course.step, course.job.pack_tokens)
    arguments = DPOConfig(
        **common_arguments(course, policy, len(steps)), beta=settings.beta, loss_type=["sigmoid"], max_length=None
    )
    rows = [{"better": example.rows[0].tokens, "worse": example.rows[1].tokens} for example in examples]
    return _PreferenceTrainer(
        steps,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=token_ids_only(),
        data_collator=list,
        **common_objects(course, policy, consumed(examples, order)),
    )


class _PreferenceTrainer(DPOTrainer):
    """TRL's trainer over our own steps: one optimiser step is the sum of its passes, each by its share."""

    def __init__(self, steps: Steps, **arguments: Any) -> None:
        self._steps = steps
        super().__init__(**arguments)

    def _prepare_dataset(self, dataset, *_) -> Any:
        return dataset  # token ids need no tokenizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self._steps.loader()

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        return summed(partial(super().training_step, model), inputs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None) -> Any:
        share, labels = inputs.pop("share"), inputs.pop("labels")
        return share * super().compute_loss(model, {**inputs, "completion_mask": (labels != IGNORED).long()})

    def floating_point_ops(self, inputs) -> int:
        return 0
