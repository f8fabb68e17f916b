"""Containment: the sandbox that runs what a model wrote, and the budgets it spends from."""

from .isolation import Isolation
from .local import LayerReport, LocalSandbox, default_sandbox, probe
from .results import read_result
from .sandbox import Command, Ending, Layer, Limits, Mount, Result, Sandbox

__all__ = [
    "Command",
    "Ending",
    "Isolation",
    "Layer",
    "LayerReport",
    "Limits",
    "LocalSandbox",
    "Mount",
    "Result",
    "Sandbox",
    "default_sandbox",
    "probe",
    "read_result",
]
