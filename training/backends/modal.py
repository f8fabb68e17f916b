"""Not exercised: no job has run through this file. A deployed Modal function as an engine, after its documentation.

    backend = ModalBackend(Path("/shared/runs"), app="pawl", function="train")

The function is the user's to deploy, since image, GPU and volume are theirs; all that it does is

    @app.function(image=image_with_pawl, volumes={"/shared": volume}, gpu="H100", timeout=24 * 3600)
    def train(argv: list[str]) -> int:
        with committing(volume, every=30):     # a volume shows what was written once it is committed
            return subprocess.call([sys.executable, *argv])

The controller must see the same volume at the same path, and reload it. Modal's containers are themselves sandboxed
(gVisor); whether Pawl's sandbox can be made in one is not known, and where it can't, a job fails and says so.
"""

# pyright: reportMissingImports=false

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import BackendUnavailable
from ...safety.sandbox import Limits
from ..job import TrainJob
from .engine import EngineBackend, EngineState
from .library import need


class ModalEngine:
    """Calls of a deployed function; see `ModalBackend` for the arguments."""

    def __init__(self, app: str, function: str) -> None:
        self._modal: Any = need("modal", "modal")
        self._errors: Any = need("modal.exception", "modal")
        self._app, self._function = app, function

    def start(self, name: str, argv: Sequence[str], job: TrainJob) -> str:
        """See `Engine.start`. Modal has no names: a call that nobody wrote down ends behind the next one's lock."""
        try:
            return str(self._modal.Function.from_name(self._app, self._function).spawn(list(argv)).object_id)
        except self._errors.Error as error:
            raise BackendUnavailable(
                f"Modal didn't start {name} ({type(error).__name__}: {error}). Deploy the function "
                f"{self._function!r} of the app {self._app!r}, and see `modal token`."
            ) from error

    def state(self, number: str) -> EngineState:
        """See `Engine.state`."""
        try:
            self._modal.FunctionCall.from_id(number).get(timeout=0)
        except (self._errors.OutputExpiredError, self._errors.NotFoundError):
            return EngineState.UNKNOWN
        except self._errors.ConnectionError as error:
            raise BackendUnavailable(f"Modal can't be reached: {error}") from error
        except TimeoutError:
            return EngineState.RUNNING
        except Exception:  # what the function raised is raised here
            return EngineState.ENDED
        return EngineState.ENDED

    def stop(self, number: str) -> None:
        """See `Engine.stop`."""
        self._modal.FunctionCall.from_id(number).cancel()


class ModalBackend(EngineBackend):
    """Training jobs as calls of a deployed Modal function. Not exercised."""

    def __init__(self, runs: Path, limits: Limits | None = None, *, app: str, function: str) -> None:
        """Make a backend.

        Args:
            runs: folder of the run dirs on the volume, at the same path here and there.
            limits: of one attempt.
            app: name of the deployed app.
            function: name of its function.

        Raises:
            ConfigurationError: Modal's client is not installed.
        """
        super().__init__(runs, ModalEngine(app, function), limits, stale_seconds=180.0)
