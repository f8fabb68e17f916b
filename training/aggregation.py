"""How much each datum of an optimiser step weighs in its loss.

    shares, divisor = aggregate(datums, settings)    # loss = sum(share * sum of the datum's token losses) / divisor

A sequence is a rollout, whatever number of datums it became, and |o_i| its decisions: prompts and forced tokens count
for nothing. The result doesn't depend on how the datums are packed.
"""

from collections import Counter
from collections.abc import Sequence

from .datums import Datum
from .objectives import Aggregation, LossSettings


def aggregate(datums: Sequence[Datum], settings: LossSettings) -> tuple[list[float], float]:
    """Shares of the datums' token losses, and what their sum is divided by.

    With l_{i,t} the loss of token t of sequence i, N sequences and weights 1:
    `TOKEN` is ``sum_i sum_t l_{i,t} / sum_i |o_i|`` (DAPO, arXiv 2503.14476, equation 8),
    `SEQUENCE` is ``1/N sum_i 1/|o_i| sum_t l_{i,t}`` (GRPO, arXiv 2402.03300, equation 3),
    `CONSTANT` is ``1/(N L) sum_i sum_t l_{i,t}`` (Dr. GRPO, arXiv 2503.20783, section 3.2, with L a constant length).

    Args:
        datums: of one optimiser step, those included that cost no pass because their advantages are 0.
        settings: aggregation and constant length.

    Returns:
        One share a datum, in order, and the divisor.
    """
    names = [(datum.group_id, datum.rollout_id or f"#{place}") for place, datum in enumerate(datums)]
    lengths = Counter[tuple[str, str]]()
    for name, datum in zip(names, datums, strict=True):
        lengths[name] += datum.decisions
    per_sequence = [datum.weight / max(1, lengths[name]) for name, datum in zip(names, datums, strict=True)]
    per_token = [datum.weight for datum in datums]
    sequences = sum(share * datum.decisions for share, datum in zip(per_sequence, datums, strict=True))
    match settings.aggregation:
        case Aggregation.TOKEN:
            return per_token, sum(share * datum.decisions for share, datum in zip(per_token, datums, strict=True))
        case Aggregation.SEQUENCE:
            return per_sequence, sequences
        case Aggregation.CONSTANT:
            return per_token, sequences * settings.constant_length
