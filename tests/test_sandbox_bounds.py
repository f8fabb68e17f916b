"""What a sandboxed program is, and how much it may take: its user, processes, memory, scratch, and the rules."""

import asyncio
import json
import os
import signal
import struct
import sys
import time

import pytest

from pawl.core import SandboxUnavailable
from pawl.safety import Command, Ending, Isolation, Layer, Limits, Mount, Use, default_sandbox, read_result
from pawl.safety.sandbox import cgroups, local, users
from pawl.safety.sandbox.rules import GIVEN_BY, REQUIRED, Guarantee, guarantees, missing
from pawl.safety.sandbox.tensors import parse_safetensors

SETS = [Isolation.BUBBLEWRAP, Isolation.LANDLOCK]
NO_GROUPS = cgroups.Found({}, {"pids": "taken away by the test", "memory": "taken away by the test"})
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can hand out users")


@pytest.fixture(params=SETS)
def sandbox(request):
    reason = local.why_not(request.param)
    if reason:
        pytest.skip(reason)
    return default_sandbox(request.param)


@pytest.fixture(params=["with control groups", "without control groups"])
def bounded(request, sandbox, monkeypatch):
    """A sandbox whose bounds are the kernel's groups, and one that has to do without."""
    if request.param == "without control groups":
        monkeypatch.setattr(cgroups, "find", lambda: NO_GROUPS)
    elif not {"pids", "memory"} <= set(cgroups.find().places):
        pytest.skip(f"no control groups: {cgroups.find().reasons}")
    return sandbox


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


async def python(sandbox, work, source, *, mounts=(), use=Use.FOREIGN_AGENT, **limits):
    argv = (sys.executable, "-S", "-c", source)
    limits = Limits(**{"wall_seconds": 20, **limits})
    return await sandbox.run(Command(argv=argv, work=work, mounts=mounts, limits=limits, use=use))


@needs_root
async def test_runs_of_root_have_a_user_each_and_none_is_root(sandbox, tmp_path):
    source = """
import json, os, time
found = {"ids": [*os.getresuid(), *os.getresgid()], "more": os.getgroups()}
for name, thunk in {"root": lambda: os.setuid(0), "other": lambda: os.setuid(61000), "kill": lambda: os.kill(1, 0),
                    "core": lambda: open("/proc/sys/kernel/core_pattern", "w")}.items():
    try:
        found[name] = str(thunk())
    except OSError:
        found[name] = "refused"
json.dump(found, open("found", "w"))
time.sleep(0.3)
"""
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir(mode=0o700)
    results = await asyncio.gather(*(python(sandbox, folder, source) for folder in folders))
    assert [(result.ending, result.status) for result in results] == [(Ending.EXITED, 0)] * 4, results
    found = [json.loads(read_result(folder, "found", 1 << 16) or b"") for folder in folders]
    ids = [set(each["ids"]) for each in found]
    assert all(len(each) == 1 for each in ids)
    numbers = set.union(*ids)
    assert len(numbers) == 4
    assert numbers <= set(range(users.FIRST, users.FIRST + users.COUNT))
    assert {number for each in found for number in each["more"]} == {users.GROUP}
    assert {each[name] for each in found for name in ("root", "other", "core")} == {"refused"}
    assert {(folder / "found").stat().st_uid for folder in folders} == numbers
    assert {folder.stat().st_uid for folder in folders} == {0}


@needs_root
def test_a_user_is_taken_until_it_is_given_back_whoever_asks():
    with users.borrow_user() as one, users.borrow_user() as other:
        assert one.id != other.id
        child = os.fork()
        if child == 0:
            with users.borrow_user() as third:
                os._exit(0 if third.id not in {one.id, other.id} else 1)
        assert os.waitpid(child, 0)[1] == 0


@needs_root
async def test_a_run_that_its_own_user_could_not_read_for_goes_without_or_is_refused(sandbox, work, tmp_path):
    secret = tmp_path / "weights"
    secret.mkdir()
    (secret / "model").write_text("w")
    (secret / "model").chmod(0o600)
    source = f"print(open({str(secret / 'model')!r}).read())"
    with pytest.raises(SandboxUnavailable, match=r"promise this run: not root;.*foreign_agent.*chmod o\+rX"):
        await python(sandbox, work, source, mounts=(Mount(path=secret),))
    result = await python(sandbox, work, source, mounts=(Mount(path=secret),), use=Use.TRAINING)
    assert result.stdout == b"w\n"
    (secret / "model").chmod(0o644)
    result = await python(sandbox, work, f"{source}\nimport os; assert os.getuid()", mounts=(Mount(path=secret),))
    assert (result.status, result.stdout) == (0, b"w\n")


@needs_root
async def test_the_users_own_output_can_be_opened_again(sandbox, work):
    command = Command(argv=("/bin/sh", "-c", "echo one > /dev/stdout; echo two > /dev/stderr"), work=work)
    result = await sandbox.run(command)
    assert (result.stdout, result.stderr) == (b"one\n", b"two\n"), result


async def test_processes_and_threads_are_bounded(bounded, work):
    source = """
import os, signal, sys, threading, time
made = 1
try:
    while made < 400:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        made += 1
except OSError:
    pass
print(made, flush=True)
"""
    result = await python(bounded, work, source, processes=20)
    assert (result.ending, result.status) == (Ending.EXITED, 0), result
    assert 10 < int(result.stdout) <= 21


async def test_a_fork_bomb_ends_with_its_time(bounded, work):
    before = _groups()
    began = time.monotonic()
    result = await python(bounded, work, "import os\nwhile True:\n try: os.fork()\n except OSError: pass",
                          processes=30, wall_seconds=1.0)  # fmt: skip
    assert result.ending is Ending.TIMED_OUT
    assert time.monotonic() - began < 30
    assert _groups() <= before


async def test_memory_is_bounded_over_all_processes_together(bounded, work):
    source = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        held = bytearray(os.urandom(1 << 20)) * 40
        time.sleep(99)
        os._exit(0)
time.sleep(99)
"""
    before = _groups()
    result = await python(bounded, work, source, total_memory_bytes=128 << 20, wall_seconds=40, memory_bytes=0)
    assert (result.ending, result.status) == (Ending.MEMORY_LIMIT, signal.SIGKILL)
    assert _groups() <= before


async def test_one_process_can_hold_no_more_than_all_may(sandbox, work):
    result = await python(sandbox, work, "x = bytearray(1 << 30)", total_memory_bytes=256 << 20, memory_bytes=0)
    assert result.status == 1
    assert b"MemoryError" in result.stderr


@pytest.mark.parametrize(
    "fill",
    [
        "for n in range(10**6): open(f'f{n}', 'wb').write(bytes(1 << 20)); time.sleep(0.005)",
        "os.makedirs('a/b')\nfor n in range(10**6): open(f'a/b/{n}', 'wb').write(bytes(1 << 20)); time.sleep(0.005)",
        """
kept = []
for n in range(10**6):
    kept.append(open('gone', 'wb'))
    os.unlink('gone')
    kept[-1].write(bytes(1 << 20))
    kept[-1].flush()
    time.sleep(0.005)
""",
    ],
    ids=["many files", "deep files", "removed files"],
)
async def test_a_program_that_fills_its_scratch_is_ended(sandbox, work, fill):
    result = await python(sandbox, work, f"import os, time\n{fill}", scratch_bytes=16 << 20, wall_seconds=60)
    assert (result.ending, result.status) == (Ending.SCRATCH_LIMIT, signal.SIGKILL), result


async def test_what_a_quick_program_left_counts_too(sandbox, work):
    source = "for n in range(8): open(f'f{n}', 'wb').write(bytes(1 << 20))"
    result = await python(sandbox, work, source, scratch_bytes=4 << 20)
    assert result.ending is Ending.SCRATCH_LIMIT
    result = await python(sandbox, work, "import os\nfor n in range(8): os.unlink(f'f{n}')", scratch_bytes=4 << 20)
    assert result.ending in {Ending.EXITED, Ending.SCRATCH_LIMIT}


WORK_UNSEEN = """
import os, signal, sys, time
if sys.argv[1:] == ["forgotten"]:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
r, w = os.pipe()
if os.fork() == 0:
    while time.process_time() < 0.6: pass
    if not sys.argv[1:]:
        os.write(w, b"x")
        time.sleep(60)
    os._exit(0)
os.close(w)
os.read(r, 1)
time.sleep(0.1)
"""


async def test_the_time_of_a_child_that_nobody_waits_for_is_counted(bounded, work):
    result = await python(bounded, work, WORK_UNSEEN)
    assert result.ending is Ending.EXITED
    assert 0.55 < result.cpu_seconds < 2


async def test_where_a_group_counts_it_counts_what_the_kernel_tells_no_parent(sandbox, work):
    if "cpuacct" not in cgroups.find().places and not any(each.version == 2 for each in cgroups.find().places.values()):
        pytest.skip(f"no control group counts: {cgroups.find().reasons}")
    result = await sandbox.run(Command(argv=(sys.executable, "-S", "-c", WORK_UNSEEN, "forgotten"), work=work))
    assert result.ending is Ending.EXITED
    assert result.cpu_seconds > 0.55


async def test_binary_output_is_only_bytes(sandbox, work):
    source = "import os; os.write(1, bytes(range(256))); os.write(2, b'\\xff\\xfe\\x00' * 3); os.kill(os.getpid(), 6)"
    result = await python(sandbox, work, source)
    assert (result.ending, result.status) == (Ending.SIGNALLED, signal.SIGABRT)
    assert (result.stdout, result.stderr) == (bytes(range(256)), b"\xff\xfe\x00" * 3)


async def test_nothing_outside_is_written_and_what_lies_there_stays(sandbox, work, tmp_path):
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "file").write_text("as it was")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    source = f"""
import os
for path in ({str(tmp_path / "neighbour" / "file")!r}, {str(tmp_path / "open" / "new")!r}, "../beside", "/tmp/there",
             "/var/tmp/there", "/dev/shm/there", "/run/there", "/proc/self/root/tmp/there"):
    try:
        open(path, "w").write("changed")
        print("wrote", path)
    except OSError:
        pass
os.symlink({str(tmp_path / "neighbour" / "file")!r}, "result.json")
"""
    result = await python(sandbox, work, source)
    assert (result.status, result.stdout) == (0, b""), result
    assert (tmp_path / "neighbour" / "file").read_text() == "as it was"
    assert os.listdir(tmp_path / "open") == []
    assert read_result(work, "result.json", 1 << 20) is None


def _groups():
    """The control groups that runs of this process have now; a test holds what it left against those before it."""
    return {
        group
        for place in cgroups.find().places.values()
        for group in place.folder.glob(f"pawl-run-{os.getpid()}-*")
        if group.exists()
    }


async def test_a_run_leaves_no_control_group(sandbox, work):
    if not cgroups.find().places:
        pytest.skip(f"no control groups: {cgroups.find().reasons}")
    before = _groups()
    await asyncio.gather(*(python(sandbox, work, "import os; os.fork()") for _ in range(3)))
    assert _groups() <= before


async def test_a_run_that_is_cancelled_twice_leaves_no_control_group(sandbox, work):
    if not cgroups.find().places:
        pytest.skip(f"no control groups: {cgroups.find().reasons}")
    before = _groups()
    source = "import os, time\nfor _ in range(40):\n if os.fork() == 0: break\ntime.sleep(60)"
    run = asyncio.create_task(python(sandbox, work, source, processes=64))
    while not _groups() - before:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    for _ in range(2):
        run.cancel()
        await asyncio.sleep(0.001)
    with pytest.raises(asyncio.CancelledError):
        await run
    assert _groups() <= before


@needs_root
async def test_a_missing_guarantee_is_refused_with_advice(sandbox, work, monkeypatch):
    monkeypatch.setattr(local, "why_no_user_under", lambda isolation: "taken away by the test")
    with pytest.raises(SandboxUnavailable, match=r"run: not root;.*foreign_agent.*requires.*other than root"):
        await python(sandbox, work, "open('ran', 'w')")
    if "pids" in cgroups.find().places:
        assert (await python(sandbox, work, "", use=Use.SCAFFOLD)).status == 0
    monkeypatch.setattr(cgroups, "find", lambda: NO_GROUPS)
    with pytest.raises(SandboxUnavailable, match=r"run: bounded processes;.*pids cgroup"):
        await python(sandbox, work, "open('ran', 'w')", use=Use.SCAFFOLD)
    assert list(work.iterdir()) == []
    with pytest.raises(SandboxUnavailable, match=r"bubblewrap: it can't promise: bounded processes"):
        default_sandbox()


async def test_no_sandbox_at_all_runs_nothing_but_what_is_trusted(work):
    sandbox = default_sandbox(Isolation.NONE)
    for use in set(Use) - {Use.TRUSTED}:
        with pytest.raises(SandboxUnavailable, match="no network"):
            await python(sandbox, work, "open('ran', 'w')", use=use)
    assert list(work.iterdir()) == []
    assert (await python(sandbox, work, "", use=Use.TRUSTED)).status == 0


def test_both_sets_give_what_every_use_requires_and_no_single_layer_does():
    everyday = {Layer.PROCESS_GROUP, Layer.EMPTY_ENVIRONMENT, Layer.CLOSED_DESCRIPTORS, Layer.RLIMITS, Layer.WATCH,
                Layer.ORDINARY_USER, Layer.SECCOMP}  # fmt: skip
    for decisive in (Layer.NAMESPACES, Layer.LANDLOCK):
        layers = frozenset(everyday | {decisive})
        assert all(not missing(use, layers) for use in Use)
        assert guarantees(layers) == frozenset(Guarantee)
        for layer in everyday:
            kept = layers - {layer}
            needed = any(missing(use, kept) for use in Use)
            assert needed, layer
    assert set(GIVEN_BY) == set(Guarantee)
    assert set(REQUIRED) == set(Use)
    assert missing(Use.SCAFFOLD, frozenset(everyday))[0] is Guarantee.NO_ENVIRONMENT


def tensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_are_read_by_what_their_header_says():
    data = tensors({"b": entry(8, 12, [2], "BF16"), "a": entry(0, 8, [1, 2]), "__metadata__": {"k": "v"}}, bytes(12))
    found = parse_safetensors(data)
    assert [(name, each.dtype, each.shape) for name, each in found.items()] == [
        ("a", "F32", (1, 2)),
        ("b", "BF16", (2,)),
    ]
    assert parse_safetensors(tensors({})) == {}
    assert parse_safetensors(tensors({"scalar": entry(0, 4, []), "none": entry(4, 4, [0])}, bytes(4)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04pickled",
        tensors({}, length=1 << 60),
        tensors({}, length=0),
        tensors({}, b"x"),
        tensors(b"[]"),
        tensors(b" {}"),
        tensors(b'{"a": 1}'),
        tensors(b"{" + b'"a":{' * 9000 + b"}" * 9001),
        tensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 1 + b'"a":{}}', bytes(4)),
        tensors({"a": entry(0, 4, [2])}, bytes(4)),
        tensors({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4)),
        tensors({"a": entry(4, 8, [1])}, bytes(8)),
        tensors({"a": entry(0, 8, [1])}, bytes(8)),
        tensors({"a": entry(0, 4, [1], "PICKLE")}, bytes(4)),
        tensors({"a": entry(0, 4, [-1])}, bytes(4)),
        tensors({"a": entry(0, 4, [True])}, bytes(4)),
        tensors({"a": entry(0, 4, [1.0])}, bytes(4)),
        tensors({"a": entry(0, 1 << 62, [1 << 60])}, bytes(4)),
        tensors({"a": {**entry(0, 4, [1]), "code": "x"}}, bytes(4)),
        tensors({"__metadata__": {"k": 1}}),
    ],
)
def test_what_is_no_plain_tensor_file_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        parse_safetensors(data)


def test_a_library_writes_what_is_read_here():
    safetensors = pytest.importorskip("safetensors.numpy")
    numpy = pytest.importorskip("numpy")
    data = safetensors.save({"x": numpy.ones((3, 4), "float32"), "y": numpy.zeros(0, "int64")}, {"by": "it"})
    assert {name: each.shape for name, each in parse_safetensors(data).items()} == {"x": (3, 4), "y": (0,)}


def test_a_group_of_version_two_is_used_only_where_it_is_pawls_alone(tmp_path):
    """Plain files stand for the kernel's: this machine's controllers belong to version 1."""
    own = tmp_path / "scope"
    own.mkdir()
    (own / "cgroup.controllers").write_text("cpu memory pids")
    (own / "cgroup.subtree_control").write_text("")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    with pytest.raises(OSError, match="holds other processes"):
        cgroups._delegated(own, "pids")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert cgroups._delegated(own, "pids") == own
    assert (own / "pawl-own" / "cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+pids +memory"
    assert cgroups._delegated(own / "pawl-own", "memory") == own
    (own / "cgroup.controllers").write_text("cpu")
    with pytest.raises(OSError, match="was not given the controller memory"):
        cgroups._delegated(own, "memory")
