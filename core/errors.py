"""The error tree.

One root, `PawlError`. A message says what was found, what was expected and what to do next.
What a candidate does wrong (a crash, a wrong answer, a time-out) is data, never one of these:
it becomes a `Grade` or an `Outcome`. These are for users, operators and damaged machinery.
"""


class PawlError(Exception):
    """Root of every error that Pawl raises on purpose; the command line prints it without a traceback."""


class ConfigurationError(PawlError, ValueError):
    """A setting, argument or node specification that can't be used as given."""


class NotFound(PawlError, LookupError):
    """A campaign, request, version, channel, task or item that isn't there."""


class Conflict(PawlError):
    """Somebody else was first: a second answer, a moved channel, a campaign that another process runs."""


class LeaseLost(Conflict):
    """Another process took the campaign over; what this one still does would be done twice."""


class CampaignFinished(PawlError):
    """The campaign has ended; there is nothing to resume or to answer."""


class CampaignChanged(PawlError):
    """The graph or schema in the code is not the one that the campaign was started with."""


class ArtifactMissing(NotFound):
    """No artefact with this digest in the store."""


class ArtifactDamaged(PawlError):
    """The bytes under a digest no longer have that digest."""


class HomeDamaged(PawlError):
    """A database or folder of the home can't be read."""


class ModelUnavailable(PawlError):
    """The model endpoint is down, too slow, or answers what is not the OpenAI API."""


class SandboxUnavailable(PawlError):
    """No set of isolation layers that the rule requires is present on this machine."""


class BackendUnavailable(PawlError):
    """The engine that runs training jobs can't be reached, or refuses."""


class BudgetExhausted(PawlError):
    """A budget has been used up; raised at a boundary, so that nothing is half done."""


class AccountExhausted(BudgetExhausted):
    """A campaign has learnt all that it may from sealed data; only a new one, with fresh items, can learn more."""


class SealBroken(PawlError):
    """What the judge revealed is not what it had committed itself to."""


class Stopped(PawlError):
    """The kill switch is set; `pawl go` lifts it."""
