"""The home folder: where one installation of Pawl keeps its state."""

from pathlib import Path

from .digest import digest_bytes
from .errors import HomeDamaged


class Home:
    """Paths below a home, created on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def create(self) -> "Home":
        """Make the folders that are missing.

        Raises:
            HomeDamaged: a file stands where a folder should be, or the folder can't be written.
        """
        try:
            for folder in (self.root, self.artifacts, self.runs, self.sockets):
                folder.mkdir(parents=True, exist_ok=True)
            self.judge.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HomeDamaged(
                f"The home {self.root} can't be used: {error}. Expected a folder that this user can write; "
                "name another with --home or PAWL_HOME."
            ) from error
        return self

    def left(self) -> list[Path]:
        """What only a home that has been in use has: checkpoints, artefacts, the judge's files."""
        checkpoints = [self.checkpoints] if self.checkpoints.exists() and self.checkpoints.stat().st_size else []
        folders = [folder for folder in (self.artifacts, self.judge) if folder.is_dir()]
        return checkpoints + [folder for folder in folders if any(folder.iterdir())]

    @property
    def database(self) -> Path:
        """Registry, ledger, operations, decisions, budgets and the trajectory index."""
        return self.root / "pawl.sqlite"

    @property
    def checkpoints(self) -> Path:
        """LangGraph's checkpoints."""
        return self.root / "checkpoints.sqlite"

    @property
    def artifacts(self) -> Path:
        """The artefact store."""
        return self.root / "artifacts"

    @property
    def runs(self) -> Path:
        """Run dirs of training jobs."""
        return self.root / "runs"

    @property
    def adapters(self) -> Path:
        """Adapters as files, by digest, that training goes on from; below them, those that servers read."""
        return self.root / "adapters"

    def served(self, server: str) -> Path:
        """Adapters as files, by digest, that one model server reads."""
        return self.adapters / "served" / digest_bytes(server.encode())[:12]

    @property
    def judge(self) -> Path:
        """What only the judge may read."""
        return self.root / "judge"

    @property
    def verifications(self) -> Path:
        """The controller's cache of verification reports."""
        return self.root / "verifications"

    @property
    def sockets(self) -> Path:
        """Pid files and logs of the processes that serve this home."""
        return self.root / "run"
