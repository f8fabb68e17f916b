"""The nodes of the loop, in the order in which a round meets them."""

from . import (
    discard,
    evaluator,
    feedback_agent,
    gate,
    gauntlet,
    meta_agent,
    monitor,
    promoter,
    scaffold_editor,
    shadow,
    task_agent,
    trainer,
)

HOUSE = (
    meta_agent.SPEC,
    task_agent.SPEC,
    evaluator.SPEC,
    feedback_agent.SPEC,
    scaffold_editor.SPEC,
    trainer.SPEC,
    gauntlet.SPEC,
    shadow.SPEC,
    gate.SPEC,
    promoter.PROMOTER,
    monitor.SPEC,
    promoter.ROLLBACK,
    discard.SPEC,
)
