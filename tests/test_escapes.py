"""No attack of the escape suite gets out of the sandbox, under either set of layers; and every attack is a real one."""

import pytest

from pawl.safety import default_sandbox
from pawl.safety.sandbox.local import why_not

from .escapes import PROBES, SETS, Bare, Verdict, try_probe


@pytest.mark.parametrize("isolation", SETS)
@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
async def test_no_attack_gets_out(probe, isolation):
    reason = why_not(isolation)
    if reason:
        pytest.skip(reason)
    outcome = await try_probe(probe, default_sandbox(isolation))
    assert outcome.verdict is Verdict.HELD, (outcome.facts, outcome.ways)


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
async def test_every_attack_works_where_there_is_no_sandbox(probe):
    outcome = await try_probe(probe, Bare())
    assert outcome.verdict is Verdict.ESCAPED, outcome.ways
