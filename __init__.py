"""Pawl: agents that improve themselves, scaffold and weights, and can't slip.

    from pawl.graph import Session

    with Session.sync(home=".pawl") as session:
        campaign = session.start("trimul", rounds=2)
        session.approve(campaign.id, campaign.pending[0].id, by="ada", reason="the races look right")

The parts live in subpackages, one layer each; ARCHITECTURE.md draws the house.
"""

__version__ = "0.1.0"
