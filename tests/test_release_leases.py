import os
import signal
import time

import pytest
from sqlalchemy import select

from pawl.core import Conflict, Database, LeaseLost
from pawl.release import Lease
from pawl.release.leases import leases_table

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import start

HOLD = """
    import sys
    from pawl.core import Conflict, Database
    from pawl.release import Lease

    db = Database(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        with Lease(db, "c1"):
            print("won", flush=True)
            sys.stdin.readline()
    except Conflict as error:
        print("lost", error, flush=True)
        sys.stdin.readline()
"""


def test_a_lease_held_is_refused_by_name_and_free_again_afterwards(db: Database):
    with Lease(db, "c1"):
        with pytest.raises(Conflict, match=f"run by process {os.getpid()}"), Lease(db, "c1"):
            pass
        with Lease(db, "c2"):
            pass
    with Lease(db, "c1"):
        pass


def test_of_processes_that_take_it_at_the_same_moment_one_gets_it(db: Database):
    processes = [start(HOLD, db.url) for _ in range(2)]
    lines = []
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"  # type: ignore[union-attr]
        for process in processes:
            print("go", file=process.stdin, flush=True)
        lines = [process.stdout.readline().split() for process in processes]  # type: ignore[union-attr]
    finally:
        for process in processes:
            process.communicate("done\n", timeout=60)
    assert sorted(line[0] for line in lines) == ["lost", "won"]
    winner = processes[[line[0] for line in lines].index("won")]
    assert str(winner.pid) in next(line for line in lines if line[0] == "lost")
    with Lease(db, "c1"):
        pass


def test_a_holder_that_was_killed_leaves_nobody_waiting(db: Database):
    holder = start(HOLD, db.url)
    holder.stdout.readline()  # type: ignore[union-attr]
    print("go", file=holder.stdin, flush=True)
    assert holder.stdout.readline() == "won\n"  # type: ignore[union-attr]
    with pytest.raises(Conflict), Lease(db, "c1"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate(timeout=60)
    with Lease(db, "c1") as lease:
        lease.renew()


def test_a_lease_that_ran_out_is_taken_over_and_its_first_holder_is_told(db: Database):
    with Lease(db, "c1", seconds=0.05, heartbeat=False) as first:
        time.sleep(0.1)
        with Lease(db, "c1") as second:
            for ask in (first.renew, first.check, first.check):
                with pytest.raises(LeaseLost, match="took it over"):
                    ask()
            assert first.lost
            second.check()
            second.renew()
        with pytest.raises(LeaseLost):
            first.check()
    with Lease(db, "c1"):
        pass


def test_a_lease_that_ran_out_and_that_nobody_took_is_renewed_by_asking(db: Database):
    with Lease(db, "c1", seconds=0.3, heartbeat=False) as lease:
        time.sleep(0.35)
        lease.check()
        with pytest.raises(Conflict, match="run by process"), Lease(db, "c1"):
            pass
        assert not lease.lost


def test_a_holder_that_slept_past_its_lease_hears_of_it_from_its_heartbeat(db: Database):
    with Lease(db, "c1", seconds=0.3) as first:
        with db.write() as connection:
            connection.execute(leases_table.update().values(token="another's"))
        deadline = time.monotonic() + 30
        while not first.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        assert first.lost


def test_a_heartbeat_renews_a_lease_long_before_it_runs_out(db: Database):
    def expires() -> float:
        with db.read() as connection:
            return connection.execute(select(leases_table.c.expires)).scalar_one()

    with Lease(db, "c1", seconds=3.0):
        first, deadline = expires(), time.monotonic() + 30
        while expires() == first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert expires() > first


def test_a_live_pid_that_is_another_process_does_not_hold(db: Database):
    with Lease(db, "c1", heartbeat=False):
        with db.write() as connection:
            connection.execute(leases_table.update().values(started="1"))
        with Lease(db, "c1"):
            pass


def test_a_holder_on_another_machine_is_waited_for(db: Database):
    with Lease(db, "c1", heartbeat=False):
        with db.write() as connection:
            connection.execute(leases_table.update().values(machine="elsewhere pid:[1]", pid=2**22 + 1, host="far"))
        with pytest.raises(Conflict, match="on far"), Lease(db, "c1"):
            pass
