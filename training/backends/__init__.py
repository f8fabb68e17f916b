"""Backends: the local one, and those that let an engine choose the machine.

    backend = LocalBackend(home.runs, default_sandbox())
    backend = RayBackend(Path("/shared/runs"), "http://head:8265", gpus=1)

An engine's machines see the run dirs and base models at the same paths as the controller, by a shared file system.
"""

from .engine import Engine, EngineBackend, EngineState
from .local import LocalBackend
from .modal import ModalBackend
from .ray import RayBackend
from .skypilot import SkyPilotBackend

__all__ = [
    "Engine",
    "EngineBackend",
    "EngineState",
    "LocalBackend",
    "ModalBackend",
    "RayBackend",
    "SkyPilotBackend",
]
