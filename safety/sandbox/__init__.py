"""The sandbox: how a program that a model wrote is run."""

from .isolation import Isolation
from .local import LayerReport, LocalSandbox, default_sandbox, probe
from .protocol import Command, Ending, Layer, Limits, Loopback, Mount, Result, Sandbox, Use
from .results import read_result

__all__ = [
    "Command",
    "Ending",
    "Isolation",
    "Layer",
    "LayerReport",
    "Limits",
    "LocalSandbox",
    "Loopback",
    "Mount",
    "Result",
    "Sandbox",
    "Use",
    "default_sandbox",
    "probe",
    "read_result",
]
