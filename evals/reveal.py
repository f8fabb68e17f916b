"""The reveal, checked: what the judge opens at a campaign's end must be what it had committed itself to.

differences = check_reveal(reveal, commitment=digest, evidence={key: digest, ...})
"""

from collections.abc import Mapping

from ..core import digest_json
from .judge_wire import CommitRequest, Reveal


def check_reveal(reveal: Reveal, *, commitment: str, evidence: Mapping[str, str]) -> list[str]:
    """Compare a reveal with the digests that were on record before it.

    Args:
        reveal: what the judge opened.
        commitment: digest that the campaign began with.
        evidence: of each sealed race that was told to the campaign, by its version and race, the digest of evidence.

    Returns:
        What differs, in words; empty if everything is as it was promised.
    """
    bound = CommitRequest(
        campaign=reveal.campaign, task=reveal.task, seed=reveal.seed, rules=reveal.commitment.rules
    ).model_dump(mode="json")
    found: list[str] = []
    if digest_json({**bound, "secret": reveal.secret}) != commitment:
        found.append("the secret, seed or rules are not those of the commitment")
    opened: dict[str, str] = {}
    for race in reveal.races:
        digest = digest_json({"evidence": race.evidence})
        opened[digest] = race.key
        if digest != race.result.evidence:
            found.append(f"the evidence of {race.key} is not what its outcome was told with")
    found += [f"the evidence of the {name} is missing" for name, digest in evidence.items() if digest not in opened]
    return found
