"""An engine's client library, imported where it is needed and refused in words where it isn't there."""

from importlib import import_module
from types import ModuleType

from ...core import ConfigurationError


def need(module: str, package: str, extra: str | None = None) -> ModuleType:
    """Import a module of a library that Pawl works without.

    Args:
        module: its name.
        package: what has it, for pip.
        extra: Pawl's extra that brings it, if one does.

    Raises:
        ConfigurationError: it isn't installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        install = f"pawl-agents[{extra}]" if extra else package
        raise ConfigurationError(
            f"This backend needs the library {package}, which isn't installed ({error}). "
            f"Install it with: pip install '{install}'; or train with LocalBackend, which needs none."
        ) from error
