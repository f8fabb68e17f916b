"""A whole campaign on a real Postgres: both databases there, over several processes."""

from pathlib import Path

from pawl.core import Home
from pawl.graph.session import Session
from pawl.graph.store import Store
from pawl.release import Status

from .child_campaign import small_rules
from .postgres_fixtures import empty_postgres, postgres_server  # noqa: F401
from .session_fixtures import CAMPAIGN, processes, served

APPROVAL = {"decisions": [{"type": "approve"}], "actor": "ada", "reason": "the races look right"}


def test_a_campaign_runs_is_killed_approved_and_rolled_back_on_postgres(
    postgres_server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    server, rules = served(), small_rules(items=4, attempts=2)
    with empty_postgres(postgres_server) as url, processes(server, tmp_path, database_url=url) as children:
        status, said = children.run(rules=rules.model_dump(mode="json"), fault="operation.effected:2")
        assert status == -9, said
        status, said = children.run()
        assert (status, said[-1]["kind"]) == (0, "waiting"), said
        assert children.run(answer=APPROVAL)[0] == 0
        status, said = children.run()
        assert (status, said[-1]["kind"]) == (0, "finished"), said

        settings = server.settings(database_url=url)
        with Session.sync(tmp_path, settings=settings, factory=server.factory()) as session:
            found = session.status(CAMPAIGN)
            assert found.status is Status.FINISHED
            assert found.rounds[0].candidate is not None
            assert found.live == found.rounds[0].candidate.version
            assert session.rollback("labels", by="ada", reason="a drill").version == found.rounds[0].candidate.parent
            assert session.history(CAMPAIGN)[0].next == []
        store = Store(Home(tmp_path), url)
        assert store.ledger.verify() == []
        store.close()
        assert not list(tmp_path.glob("*.sqlite*"))
