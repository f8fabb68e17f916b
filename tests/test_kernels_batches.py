"""Jobs on one source's kernels share processes, and none of them answers for another."""

import asyncio
from typing import Any

import pytest

from pawl.kernels.batches import MOST, Batch

Json = dict[str, Any]


class Processes:
    """Answers a job with its number; a process that gets the bad one fails, as when a kernel kills it."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad, self.asked = bad, list[list[int]]()

    async def ask(self, kind: str, request: Json) -> Json:
        numbers = [job["number"] for job in request["jobs"]]
        self.asked.append(numbers)
        await asyncio.sleep(0)
        if self.bad in numbers:
            return {"error": ["crash", "signal 11"]}
        return {
            "answers": [{"module": request["modules"][job["module"]], "of": job["number"]} for job in request["jobs"]]
        }


def answers(processes: Processes, jobs: int, at_once: int, alone: tuple[int, ...] = ()) -> list[Json]:
    async def run() -> list[Json]:
        batch = Batch(processes.ask, asyncio.Semaphore(at_once), at_once)
        return await asyncio.gather(
            *(batch.ask("count", f"text {n % 2}", {"number": n}, alone=n in alone) for n in range(jobs))
        )

    return asyncio.run(run())


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_jobs_share_processes_and_each_gets_its_own_answer(at_once: int):
    processes = Processes()
    found = answers(processes, 7, at_once)
    assert found == [{"answers": [{"module": f"text {n % 2}", "of": n}]} for n in range(7)]
    assert sorted(number for each in processes.asked for number in each) == list(range(7))
    assert at_once <= len(processes.asked) < 7
    assert max(map(len, processes.asked)) <= MOST


def test_a_process_that_fails_is_charged_to_the_job_that_fails_alone():
    processes = Processes(bad=2)
    found = answers(processes, 4, at_once=1)
    assert [each.get("error") for each in found] == [None, None, ["crash", "signal 11"], None]
    assert processes.asked == [[0, 1, 2, 3], [0], [1], [2], [3]]


def test_a_job_that_is_to_be_alone_is():
    processes = Processes()
    assert len(answers(processes, 5, at_once=1, alone=(1, 4))) == 5
    assert [1] in processes.asked
    assert [4] in processes.asked


def test_who_stops_waiting_takes_nobody_along():
    async def run() -> list[Json | BaseException]:
        processes = Processes()
        batch = Batch(processes.ask, asyncio.Semaphore(1), 1)
        tasks = [asyncio.create_task(batch.ask("count", "text", {"number": n})) for n in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, *others = asyncio.run(run())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [each["answers"][0]["of"] for each in others if isinstance(each, dict)] == [1, 2]


def test_a_sandbox_that_does_not_start_is_told_to_all():
    async def ask(kind: str, request: Json) -> Json:
        raise ConnectionError

    async def run() -> list[Json | BaseException]:
        batch = Batch(ask, asyncio.Semaphore(1), 1)
        return await asyncio.gather(
            *(batch.ask("count", "text", {"number": n}) for n in range(6)), return_exceptions=True
        )

    assert {type(each) for each in asyncio.run(run())} == {ConnectionError}
