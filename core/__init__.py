"""The bottom layer: digests, artefacts, database, versions, trajectories, settings, errors."""

from .artifacts import ArtifactStore
from .database import Database
from .digest import canonical_json, digest_bytes, digest_json, digest_tree
from .errors import (
    AccountExhausted,
    ArtifactDamaged,
    ArtifactMissing,
    BackendUnavailable,
    BudgetExhausted,
    CampaignChanged,
    CampaignFinished,
    ConfigurationError,
    Conflict,
    HomeDamaged,
    LeaseLost,
    ModelUnavailable,
    NotFound,
    PawlError,
    SandboxUnavailable,
    SealBroken,
    Stopped,
)
from .home import Home
from .seeds import derive_seed
from .settings import Settings
from .trajectory import (
    Grade,
    ModelCall,
    Note,
    RolloutStop,
    Step,
    ToolCall,
    Trajectory,
    Usage,
)
from .version import Sampling, Version

__all__ = [
    "AccountExhausted",
    "ArtifactDamaged",
    "ArtifactMissing",
    "ArtifactStore",
    "BackendUnavailable",
    "BudgetExhausted",
    "CampaignChanged",
    "CampaignFinished",
    "ConfigurationError",
    "Conflict",
    "Database",
    "Grade",
    "Home",
    "HomeDamaged",
    "LeaseLost",
    "ModelCall",
    "ModelUnavailable",
    "NotFound",
    "Note",
    "PawlError",
    "RolloutStop",
    "Sampling",
    "SandboxUnavailable",
    "SealBroken",
    "Settings",
    "Step",
    "Stopped",
    "ToolCall",
    "Trajectory",
    "Usage",
    "Version",
    "canonical_json",
    "derive_seed",
    "digest_bytes",
    "digest_json",
    "digest_tree",
]
