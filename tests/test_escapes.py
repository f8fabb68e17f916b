"""No attack of the escape suite gets out of a sandbox, cold or warm, under either set; and every attack is a real one."""

import pytest

from pawl.safety import default_sandbox
from pawl.safety.sandbox.local import why_not

from .escapes import PROBES, SETS, Bare, Verdict, Warmed, can_be_warm, try_probe

WARM = {name: probe for name, probe in PROBES.items() if can_be_warm(probe.module)}


@pytest.fixture(params=SETS)
def isolation(request):
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
async def test_no_attack_gets_out(probe, isolation):
    outcome = await try_probe(probe, default_sandbox(isolation))
    assert outcome.verdict is Verdict.HELD, (outcome.facts, outcome.ways)


@pytest.mark.slow
@pytest.mark.parametrize("probe", WARM.values(), ids=WARM)
async def test_no_attack_gets_out_of_a_child_of_a_warm_process(probe, isolation):
    outcome = await try_probe(probe, Warmed(isolation))
    assert outcome.verdict is Verdict.HELD, (outcome.facts, outcome.ways)


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
async def test_every_attack_works_where_there_is_no_sandbox(probe):
    outcome = await try_probe(probe, Bare())
    assert outcome.verdict is Verdict.ESCAPED, outcome.ways
