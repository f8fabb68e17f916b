"""Containment and cost: the sandbox that runs what a model wrote, and the budgets it spends from."""

from .sandbox import (
    Command,
    Ending,
    Isolation,
    Layer,
    LayerReport,
    Limits,
    LocalSandbox,
    Mount,
    Result,
    Sandbox,
    Use,
    default_sandbox,
    probe,
    read_result,
)

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
    "Use",
    "default_sandbox",
    "probe",
    "read_result",
]
