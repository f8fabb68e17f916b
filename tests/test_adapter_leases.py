"""Promises of publishing: what is leased stays, what isn't goes when its slot is needed, the longest unused first."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pawl.core import ArtifactStore
from pawl.serving.adapters import AdapterPublisher
from pawl.serving.leases import AdapterLeases
from pawl.serving.policy import Endpoint

from .model_fixtures import smollm2, tiny_adapters, tiny_home, tiny_model_dir, tiny_server

__all__ = ["smollm2", "tiny_adapters", "tiny_home", "tiny_model_dir", "tiny_server"]

HOLDER = """
import asyncio, sys
from pathlib import Path
from pawl.serving.leases import AdapterLeases

async def hold():
    async with AdapterLeases(Path(sys.argv[1])).hold(sys.argv[2]):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@pytest.fixture
async def published(tiny_server: Endpoint, tiny_adapters: list[Path], tmp_path: Path):
    """A publisher with two slots, and four adapters that differ; what it loaded is unloaded again."""
    store = ArtifactStore(tmp_path / "artifacts")
    config, weights = "adapter_config.json", "adapter_model.safetensors"
    digests = [
        store.put_tree({config: (each / config).read_bytes() + b"\n" * lines, weights: (each / weights).read_bytes()})
        for each in tiny_adapters
        for lines in range(2)
    ]
    publisher = AdapterPublisher(tiny_server, store, tmp_path / "served", slots=2)
    assert await publisher.published() == []
    yield publisher, digests, tmp_path / "served"
    for digest in await publisher.published():
        assert await publisher.unload(digest)


async def test_the_longest_unused_is_unloaded_when_its_slot_is_needed(published) -> None:
    publisher, (a, b, c, _), _ = published
    for digest in (a, b, a, c):
        await publisher.publish(digest)
    assert await publisher.published() == sorted([a, c])


async def test_what_is_leased_stays_even_beyond_the_slots(published) -> None:
    publisher, (a, b, c, d), _ = published
    async with publisher.leased(a, b):
        await publisher.publish(c)
        assert await publisher.published() == sorted([a, b, c])
        assert not await publisher.unload(a)
        await publisher.publish(d)
        assert await publisher.published() == sorted([a, b, d])
    await publisher.publish(c)
    assert len(await publisher.published()) == 2


async def test_files_outlive_their_adapter_until_the_publication_after(published) -> None:
    publisher, (a, b, c, d), folder = published
    for digest in (a, b, c):
        await publisher.publish(digest)
    assert a not in await publisher.published()
    assert (folder / a / "adapter_model.safetensors").is_file()
    await publisher.publish(d)
    assert (folder / a / "adapter_model.safetensors").is_file()
    await publisher.publish(b)
    assert not (folder / a).exists()
    await publisher.publish(a)
    assert a in await publisher.published()


async def test_a_lease_of_another_process_counts_and_ends_with_it(published) -> None:
    publisher, (a, b, c, _), folder = published
    await publisher.publish(a)
    command = [sys.executable, "-P", "-c", HOLDER, str(folder / ".leases"), a]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        await publisher.publish(b)
        await publisher.publish(c)
        assert await publisher.published() == sorted([a, c])
        os.kill(holder.pid, signal.SIGKILL)
    assert await publisher.unload(a)


async def test_what_another_home_published_is_left_alone(published, tmp_path: Path) -> None:
    publisher, (a, b, c, _), _ = published
    other = AdapterPublisher(publisher.endpoint, publisher._store, tmp_path / "other", slots=2)
    await other.publish(a)
    await publisher.publish(b)
    await publisher.publish(c)
    assert await publisher.published() == sorted([a, c])


async def test_many_publish_one_adapter_at_once(published) -> None:
    publisher, (a, *_), folder = published
    await asyncio.gather(*[publisher.publish(a) for _ in range(8)])
    assert await publisher.published() == [a]
    assert sorted(path.name for path in folder.iterdir()) == [".leases", a]


async def test_who_waits_for_an_adapter_that_is_taken_away_gets_it_anew(tmp_path: Path) -> None:
    leases = AdapterLeases(tmp_path)
    with leases.claim("a") as mine:
        assert mine
        waiting = asyncio.create_task(_hold(leases))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        leases.forget("a")
    assert await asyncio.wait_for(waiting, 5)
    with leases.claim("a") as mine:
        assert mine


async def _hold(leases: AdapterLeases) -> bool:
    async with leases.hold("a"):
        with leases.claim("a") as mine:
            return not mine
