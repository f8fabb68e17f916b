"""The scaffold editor that changes typed fields: no language model, every candidate new.

edit = await TypedEditor().edit(scaffold, decision, evidence, seed)
"""

import math
from collections.abc import Mapping, Sequence

from ..core import derive_seed, digest_tree
from ..evals.scaffold import FILE, ScaffoldConfig
from .decision import Decision, Lever, Operator
from .editor import Edit, nothing, unified_diff
from .edits import Proposal, proposals
from .evidence import RoundEvidence, RoundRecord
from .measurements import measure
from .prospects import Prospect, Rule, price, scaffold_prospects


class TypedEditor:
    """Chooses an operator like an arm of a bandit, and takes its first proposal that was never a candidate.

    The operators that treat the decision's diagnosis come first, the others only if none of those has anything new.
    Among them the greatest index wins:

        promise x (credit + optimism x sqrt(ln(1 + N) / (1 + n))) / price

    The promise and the price are what the Feedback-Agent reckons with (`prospects`), so that an untried operator
    starts from what this round's evidence says of it; credit is the share of past promises that it has kept; n counts
    its pulls, N all pulls of the scaffold (an upper confidence bound, after Auer et al. 2002). Equal indices are
    decided by the seed.
    """

    def __init__(self, rule: Rule | None = None, optimism: float = 0.25) -> None:
        self.rule = rule or Rule()
        self.optimism = optimism

    async def edit(self, scaffold: Mapping[str, bytes], decision: Decision, evidence: RoundEvidence, seed: int) -> Edit:
        """Change one thing in `scaffold.json`."""
        try:
            config = ScaffoldConfig.model_validate_json(scaffold[FILE])
        except KeyError:
            return nothing(f"The scaffold has no {FILE}, and only its fields can be edited without a capable model.")
        except ValueError as error:
            return nothing(f"The scaffold's {FILE} can't be read: {str(error).splitlines()[0]}")
        evidence = evidence.model_copy(update={"scaffold": config})
        measured = measure(evidence)
        offered = [
            one for one in scaffold_prospects(evidence, measured, self.rule) if one.operator is not Operator.FILES
        ]
        pulls = [record for record in evidence.history if record.lever is Lever.SCAFFOLD]

        def order(prospect: Prospect) -> tuple[bool, float, int]:
            index = self.index(prospect, pulls)
            return decision.diagnosis not in prospect.treats, -index, derive_seed(seed, str(prospect.operator))

        tried = {digest_tree(scaffold), *(record.scaffold for record in evidence.history)}
        for prospect in sorted(offered, key=order):
            assert prospect.operator is not None
            if prospect.promise <= 0.0:
                continue
            for proposal in proposals(prospect.operator, config, evidence, measured):
                edit = _edit(scaffold, prospect.operator, proposal)
                if digest_tree(edit.apply(scaffold)) not in tried:
                    return edit
        return nothing("No operator has anything new to propose on this evidence.")

    def index(self, prospect: Prospect, pulls: Sequence[RoundRecord]) -> float:
        """The bandit's index of an operator, in the metric's unit per unit of cost."""
        own = sum(1 for record in pulls if record.operator is prospect.operator)
        bonus = self.optimism * math.sqrt(math.log1p(len(pulls)) / (1 + own))
        return prospect.promise * (prospect.credit + bonus) / price(prospect, self.rule)


def _edit(scaffold: Mapping[str, bytes], operator: Operator, proposal: Proposal) -> Edit:
    files = {FILE: proposal.config.text()}
    return Edit(files=files, operator=operator, summary=proposal.summary, diff=unified_diff(scaffold, files))
