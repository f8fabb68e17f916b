"""A warm sandbox: what one candidate does reaches neither the next one, nor one beside it, nor the warm process."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import pytest_asyncio
from safetensors.numpy import save

from pawl.core import SandboxUnavailable
from pawl.kernels import ChildLimits, TriMul
from pawl.kernels.warm import KernelProcess, Mode
from pawl.kernels.warm import program as kernel_program
from pawl.safety.sandbox import (
    Command,
    Ending,
    Isolation,
    Limits,
    Use,
    default_sandbox,
    local,
    read_result,
    seccomp,
)
from pawl.safety.sandbox import warm as warm_module
from pawl.safety.sandbox.warm import Program, WarmSandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETS = [Isolation.BUBBLEWRAP, Isolation.LANDLOCK]
LIMITS = Limits(
    wall_seconds=40,
    cpu_seconds=8,
    memory_bytes=512 << 20,
    total_memory_bytes=640 << 20,
    scratch_bytes=8 << 20,
    file_bytes=6 << 20,
    processes=24,
)
WORKER = b"""
import ctypes, json, os, signal, socket, sys, tempfile, time
BOOT = os.urandom(8).hex()
libc = ctypes.CDLL(None, use_errno=True)
def warm_up(*arguments):
    tempfile.gettempdir()
    exec("\\n".join(arguments), {})
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
def attempt(thunk):
    try:
        return str(thunk())
    except OSError as error:
        return "refused"
def answer(request, blob, scratch):
    found = {"boot": BOOT}
    exec(request["code"], globals() | {"found": found, "blob": blob, "scratch": str(scratch), "at": request.get("at")})
    return found, blob
"""


def program(*warm_up):
    return Program("candidates", {"candidates.py": WORKER}, arguments=warm_up)


def sandbox_of(isolation):
    reason = local.why_not(isolation)
    if reason:
        pytest.skip(reason)
    return default_sandbox(isolation)


@pytest_asyncio.fixture(params=SETS, scope="module", loop_scope="module")
async def warm(request):
    warm = WarmSandbox(sandbox_of(request.param), program(), limits=LIMITS)
    yield warm
    await warm.close()


async def run(warm, code, **more):
    """What a candidate's code puts into `found`."""
    reply = await warm.ask({"code": code, **more})
    assert reply.answer is not None, reply
    return reply.answer


def alive(*marks):
    """Host process ids with all marks on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path("/proc", pid, "cmdline").read_bytes()
        except OSError:
            continue
        if all(mark.encode() in command for mark in marks):
            found.append(int(pid))
    return found


async def test_a_request_is_answered_by_a_child_of_the_same_warm_process(warm):
    replies = [await warm.ask({"code": "found['sum'] = sum(blob)"}, bytes(range(9))) for _ in range(2)]
    assert [reply.answer["sum"] for reply in replies] == [36, 36]
    assert replies[0].blob == bytes(range(9))
    assert replies[0].answer["boot"] == replies[1].answer["boot"]
    assert all(reply.ending is Ending.EXITED and reply.cpu_seconds > 0 for reply in replies)


async def test_a_child_is_confined_like_a_run_of_its_own(warm):
    source = """
found["open"] = sorted(os.listdir("/proc/self/fd"))
state = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
found["state"] = [state["CapEff"], state["NoNewPrivs"], state["Seccomp"]]
def sized(call, *arguments):
    return check(getattr(libc, call)(*arguments))
found["tries"] = {
    "users": attempt(lambda: sized("unshare", 0x10000000)),
    "mounts": attempt(lambda: sized("unshare", 0x00020000)),
    "mount": attempt(lambda: sized("mount", b"none", b".", b"tmpfs", 0, None)),
    "unmount": attempt(lambda: sized("umount2", b".", 2)),
    "setns": attempt(lambda: sized("setns", os.open("/proc/self/ns/pid", os.O_RDONLY), 0)),
    "chroot": attempt(lambda: os.chroot(".")),
    "inet": attempt(lambda: socket.socket(socket.AF_INET)),
    "ptrace": attempt(lambda: sized("ptrace", 16, os.getppid(), 0, 0)),
    "core pattern": attempt(lambda: open("/proc/sys/kernel/core_pattern", "w")),
    "passwords": attempt(lambda: open("/etc/shadow").read()),
    "package": attempt(lambda: open(at, "a")),
}
found["environment"] = sorted(os.environ)
found["where"] = [os.getcwd(), os.environ["HOME"], tempfile.gettempdir()]
found["scratch"] = scratch
"""
    found = await run(warm, source, at=str(Path(local.__file__)))
    assert found["state"] == ["0000000000000000", "1", "2"]
    assert set(found["tries"].values()) == {"refused"}, found["tries"]
    assert len(found["open"]) <= 5  # standard ones, its own answer's, and that of the listing
    assert set(found["environment"]) <= {"PATH", "HOME", "TMPDIR", "USER", "LANG", "LC_CTYPE", "PWD"}
    assert set(found["where"]) == {found["scratch"]}


LEAVE = """
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 99)
            os.execv("/bin/sleep", ["sleep", at])
        os._exit(0)
time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("then", "ending"),
    [
        ("", Ending.EXITED),
        ("os._exit(0)", Ending.EXITED),
        ("os.kill(os.getpid(), 11)", Ending.SIGNALLED),
        ("signal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(1)", Ending.TIMED_OUT),
    ],
)
async def test_no_process_is_left_behind(warm, then, ending):
    nap = f"{os.getpid()}.{time.monotonic_ns() % 10**9}"
    quick = warm
    if ending is Ending.TIMED_OUT:
        quick = WarmSandbox(warm._sandbox, program(), limits=LIMITS.model_copy(update={"wall_seconds": 1}))
    try:
        reply = await quick.ask({"code": LEAVE + then, "at": nap})
    finally:
        left = alive("sleep", nap)  # at once: it is gone when the reply is here
        if quick is not warm:
            await quick.close()
    assert reply.ending is ending, reply
    assert left == []


async def test_an_ask_that_is_cancelled_takes_its_child_along(warm):
    nap = f"{os.getpid()}.{time.monotonic_ns() % 10**9}"
    asked = asyncio.create_task(warm.ask({"code": "os.execv('/bin/sleep', ['sleep', at])", "at": nap}))
    while not alive("sleep", nap):
        await asyncio.sleep(0.02)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    for _ in range(100):
        if not alive("sleep", nap):
            break
        await asyncio.sleep(0.02)
    assert alive("sleep", nap) == []


PLACES = "['.', '/tmp', '/var/tmp', '/dev/shm', '/run', '..', os.path.dirname(sys.argv[2])]"


async def test_no_file_reaches_the_next_one(warm):
    mark = f"left-{os.getpid()}-{time.monotonic_ns()}"
    wrote = await run(
        warm, f"found['wrote'] = [attempt(lambda: open(p + '/{mark}', 'w').write(at)) for p in {PLACES}]", at="secret"
    )
    assert "6" in wrote["wrote"][0]
    source = f"""
found["seen"] = [p for p in {PLACES} if at in attempt(lambda: os.listdir(p))]
found["own"] = os.listdir(".")
"""
    found = await run(warm, source, at=mark)
    assert (found["seen"], found["own"]) == ([], [])
    assert not any((Path(place) / mark).exists() for place in ("/tmp", "/var/tmp", "/dev/shm", "/run"))


async def test_no_shared_memory_reaches_the_next_one(warm):
    key = time.monotonic_ns() % 10**6 + 17
    share = f"""
def made(name, *arguments):
    return attempt(lambda: check(getattr(libc, name)(*arguments)))
found["made"] = {{
    "segment": made("shmget", {key}, 4096, 0o1666),
    "semaphore": made("semget", {key}, 1, 0o1666),
    "queue": made("msgget", {key}, 0o1666),
    "named queue": made("mq_open", b"/pawl-{key}", 0o102, 0o666, None),
    "named memory": made("shm_open", b"/pawl-{key}", 0o102, 0o666),
}}
"""
    first = await run(warm, share)
    assert set(first["made"].values()) == {"refused"}, first
    second = await run(warm, share.replace("0o1666", "0o666").replace("0o102", "2"))
    assert set(second["made"].values()) == {"refused"}, second


async def test_no_poison_reaches_the_next_one(warm):
    poison = """
import builtins, struct
json.dumps = struct.pack = builtins.open = lambda *_, **__: (_ for _ in ()).throw(SystemExit("poisoned"))
sys.modules["candidates"].BOOT = "poisoned"
sys.modules["launcher"].confine = sys.modules["nursery"].answer = None
os.environ["LD_PRELOAD"] = "/tmp/x"
sys.path.insert(0, scratch)
os._exit(0)
"""
    before = await run(warm, "")
    assert (await warm.ask({"code": poison})).answer is None
    after = await run(warm, "found['environment'] = os.environ.get('LD_PRELOAD')")
    assert after == before | {"environment": None}


async def test_the_warm_process_cannot_be_touched(warm):
    before = await run(warm, "")
    attack = """
targets = {os.getppid(), *range(1, 30), *at} - {0}
targets.discard(os.getpid())
for pid in targets:
    for number in (9, 15, 19):
        attempt(lambda: os.kill(pid, number))
    found[f"memory {pid}"] = attempt(lambda: open(f"/proc/{pid}/mem", "r+b").name)
    found[f"files {pid}"] = attempt(lambda: [os.readlink(f"/proc/{pid}/fd/{n}") for n in range(20)])
    found[f"environment {pid}"] = attempt(lambda: open(f"/proc/{pid}/environ").read())
    found[f"folder {pid}"] = attempt(lambda: os.listdir(f"/proc/{pid}/cwd"))
    found[f"traced {pid}"] = attempt(lambda: check(libc.ptrace(16, pid, 0, 0)))
    found[f"written {pid}"] = attempt(lambda: check(libc.process_vm_writev(pid, None, 0, None, 0, 0)))
try:
    os.kill(-1, 9)
except OSError:
    pass
"""
    nurseries = alive("nursery.main()", "-B")
    assert nurseries
    found = await run(warm, attack, at=nurseries)
    boot = found.pop("boot")
    assert set(found.values()) == {"refused"}, {name: value for name, value in found.items() if value != "refused"}
    assert (await run(warm, ""))["boot"] == before["boot"] == boot


async def test_the_warm_process_has_no_door(warm):
    source = """
door = sys.argv[2]
def knock(address):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(1)
    peer.connect(address)
found["tries"] = [attempt(lambda: knock(address)) for address in (door, door + ".new", "\\0" + door)]
found["there"] = os.path.lexists(door)
"""
    found = await run(warm, source)
    assert set(found["tries"]) == {"refused"}
    assert not found["there"]


async def test_two_at_work_do_not_meet(warm):
    name = f"pawl-{time.monotonic_ns()}"
    hold = """
open("secret", "w").write("sealed-77")
server = socket.socket(socket.AF_UNIX)
server.bind("\\0" + at)
server.listen()
other = socket.socket(socket.AF_UNIX)
other.bind("door")
other.listen()
time.sleep(1.2)
"""
    probe = """
def knock(address):
    socket.socket(socket.AF_UNIX).connect(address)
above = os.path.dirname(scratch)
time.sleep(0.6)
found["scratch"] = scratch
found["abstract"] = attempt(lambda: knock("\\0" + at))
seen = []
for place in (above, *(f"/proc/{pid}/{what}" for pid in range(1, 40) for what in ("cwd", "root" + scratch))):
    for folder, _, names in os.walk(place):
        for each in names:
            if each in ("secret", "door") and folder != scratch:
                seen.append(f"{folder}/{each}")
                try:
                    found["read"] = open(f"{folder}/secret").read()
                except OSError:
                    pass
                found["knocked"] = attempt(lambda: knock(f"{folder}/door"))
found["seen"] = seen
"""
    held, found = await asyncio.gather(
        warm.ask({"code": hold, "at": name}),
        warm.ask({"code": probe, "at": name}),
    )
    assert held.ending is Ending.EXITED
    assert held.answer is not None
    assert found.answer is not None
    assert found.answer["abstract"] == "refused"
    assert "read" not in found.answer
    assert found.answer["seen"] == []


async def test_a_fork_bomb_is_bounded_and_does_not_keep_others_from_answers(warm):
    bomb = """
count = 0
try:
    while count < 2000:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        count += 1
except OSError:
    pass
found["count"] = count
time.sleep(0.5)
"""
    bombed, beside = await asyncio.gather(warm.ask({"code": bomb}), warm.ask({"code": "time.sleep(0.4)"}))
    assert bombed.answer is not None
    assert bombed.answer["count"] <= LIMITS.processes + 10
    assert beside.answer is not None


async def test_memory_is_bounded_for_one_process_and_for_all_of_a_child(warm):
    boot = (await run(warm, ""))["boot"]
    one = await run(warm, "try: x = bytearray(700 << 20)\nexcept MemoryError: found['error'] = 'memory'")
    assert one["error"] == "memory"
    many = """
for _ in range(6):
    if os.fork() == 0:
        x = bytearray(b"x") * (200 << 20)
        time.sleep(99)
        os._exit(0)
time.sleep(99)
"""
    reply = await warm.ask({"code": many})
    assert reply.answer is None
    assert reply.ending in {Ending.MEMORY_LIMIT, Ending.SIGNALLED}, reply  # and not for its time
    assert (await run(warm, ""))["boot"] == boot


async def test_scratch_and_answer_are_bounded(warm):
    boot = (await run(warm, ""))["boot"]
    fill = """
for number in range(9):
    with open(f"f{number}", "wb") as file:
        file.write(bytes(3 << 20))
time.sleep(99)
"""
    filled = await warm.ask({"code": fill})
    assert filled.answer is None
    assert filled.ending is not Ending.TIMED_OUT, filled
    small = WarmSandbox(warm._sandbox, program(), limits=LIMITS, answer_bytes=1 << 16)
    try:
        long = await small.ask({"code": "found['x'] = 'x' * (1 << 20)"})
        assert (long.ending, long.answer) == (Ending.OUTPUT_LIMIT, None)
        assert (await small.ask({"code": ""})).answer is not None
    finally:
        await small.close()
    assert (await run(warm, ""))["boot"] == boot


@pytest.mark.parametrize(
    "said", ["b'x' * 16", "bytes(7)", "(9).to_bytes(8, 'little') + bytes(8) + b'[NaN, 1,]'", "b''"]
)
async def test_an_answer_that_cannot_be_read_is_data(warm, said):
    source = f"""
descriptors = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
for descriptor in descriptors:
    attempt(lambda: os.write(descriptor, {said}))
os._exit(0)
"""
    reply = await warm.ask({"code": source})
    assert reply.answer is None
    assert reply.detail
    assert (await warm.ask({"code": ""})).answer is not None


async def test_a_time_out_ends_one_request_alone(warm):
    quick = WarmSandbox(warm._sandbox, program(), limits=LIMITS.model_copy(update={"wall_seconds": 1}))
    try:
        boot = (await run(quick, ""))["boot"]
        spin, beside = await asyncio.gather(
            quick.ask({"code": "while True: pass"}), quick.ask({"code": "time.sleep(0.2)"})
        )
        assert (spin.ending, spin.answer) == (Ending.TIMED_OUT, None)
        assert 0.05 < spin.cpu_seconds < 3
        assert spin.wall_seconds < LIMITS.wall_seconds / 2
        assert beside.answer == {"boot": boot}
    finally:
        await quick.close()


CLONE_PARENT, NR_CLONE = 0x8000, 56


@pytest.mark.parametrize("flag", [0, seccomp._BESIDE], ids=["let through", "refused"])
async def test_a_child_that_is_given_to_the_warm_process_holds_up_nobody(warm, monkeypatch, flag):
    monkeypatch.setattr(seccomp, "_BESIDE", flag)
    own = WarmSandbox(warm._sandbox, program(), limits=LIMITS)
    source = f"""
found["pid"] = libc.syscall({NR_CLONE}, {CLONE_PARENT | signal.SIGCHLD}, 0, 0, 0, 0)
if found["pid"] == 0:
    time.sleep(at)
    os._exit(0)
"""
    try:
        began, boot = time.monotonic(), (await run(own, ""))["boot"]
        beside = asyncio.create_task(own.ask({"code": "time.sleep(0.5)"}))
        given = [(await run(own, source, at=seconds))["pid"] for seconds in (0, 60)]
        assert all(pid > 0 for pid in given) if flag == 0 else given == [-1, -1]
        assert (await beside).answer == {"boot": boot}
        assert (await run(own, ""))["boot"] == boot
        assert time.monotonic() - began < LIMITS.wall_seconds  # of one request
    finally:
        await own.close()


@pytest.mark.parametrize("end", ["", "os._exit(3)"], ids=["answers", "dies"])
async def test_an_answer_waits_for_no_neighbour(warm, end):
    await run(warm, "")
    asked = asyncio.create_task(warm.ask({"code": f"time.sleep(0.4); {end}"}))
    await asyncio.sleep(0.2)
    later = asyncio.create_task(warm.ask({"code": "time.sleep(2)"}))
    done, _ = await asyncio.wait([asked, later], return_when=asyncio.FIRST_COMPLETED)
    assert done == {asked}
    assert (await later).ending is Ending.EXITED


async def test_what_a_child_left_at_work_is_counted(warm):
    source = """
r, w = os.pipe()
if os.fork() == 0:
    while time.process_time() < at: pass
    os.write(w, b"x")
    time.sleep(60)
os.read(r, 1)
"""
    reply = await warm.ask({"code": source, "at": 0.6})
    assert reply.answer is not None
    assert reply.cpu_seconds > 0.5


async def test_a_warm_process_that_hangs_costs_one_request_alone(warm, monkeypatch):
    monkeypatch.setattr(warm_module, "_GRACE_SECONDS", 0.5)
    limits = LIMITS.model_copy(update={"wall_seconds": 1})
    hanging = WarmSandbox(warm._sandbox, program(), limits=limits)
    try:
        first = await run(hanging, "found['door'] = sys.argv[2]")
        for pid in alive(f"{first['door']}\0isolation="):
            if Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")[1:3] == [b"-I", b"-B"]:
                os.kill(pid, signal.SIGSTOP)
        replies = await asyncio.gather(*(hanging.ask({"code": ""}) for _ in range(2)))
        assert all(reply.answer and reply.answer["boot"] != first["boot"] for reply in replies), replies
    finally:
        await hanging.close()
    hanging = WarmSandbox(
        warm._sandbox, program("import os, signal; os.register_at_fork(after_in_parent=signal.pause)"), limits=limits
    )
    try:
        reply = await hanging.ask({"code": "time.sleep(60)"})
        assert (reply.ending, reply.answer) == (Ending.TIMED_OUT, None)
    finally:
        await hanging.close()


async def test_a_warm_process_that_dies_is_reported_and_the_next_ask_starts_another(warm):
    before = await run(warm, "found['door'] = sys.argv[2]")
    asked = asyncio.create_task(warm.ask({"code": "time.sleep(5)"}))
    await asyncio.sleep(0.2)
    kill_warm_process(before["door"])
    with pytest.raises(SandboxUnavailable, match=r"ended during a request.*Ask again"):
        await asked
    assert not Path(before["door"]).parent.exists()
    after = await run(warm, "found['door'] = sys.argv[2]")
    assert after["boot"] != before["boot"]


class EndedForMemory:
    """Stands for a kernel that ends all of a control group at once, as version 2 does; the rest is the real sandbox."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.layers = sandbox.layers

    async def run(self, command):
        result = await self.sandbox.run(command)
        return result.model_copy(update={"ending": Ending.MEMORY_LIMIT})


def kill_warm_process(door):
    """Kill the nursery whose socket was there, and the stub before its namespace; not the launcher or bubblewrap."""
    for pid in alive(f"{door}\0isolation="):
        try:
            if Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")[1:3] == [b"-I", b"-B"]:
                os.kill(pid, signal.SIGKILL)
        except (OSError, IndexError):
            continue


async def test_of_two_lost_with_the_warm_process_only_the_one_at_fault_goes_without_an_answer(warm):
    frail = WarmSandbox(EndedForMemory(warm._sandbox), program(), limits=LIMITS)
    try:
        door = (await run(frail, "found['door'] = sys.argv[2]"))["door"]
        greedy = asyncio.create_task(frail.ask({"code": "time.sleep(0.6); found['door'] = sys.argv[2]"}))
        beside = asyncio.create_task(frail.ask({"code": "time.sleep(0.6)"}))
        await asyncio.sleep(0.3)
        kill_warm_process(door)
        assert (await beside).answer is not None
        assert (await greedy).answer["door"] != door
        nap = f"{os.getpid()}.{time.monotonic_ns() % 10**9}"
        greedy = asyncio.create_task(frail.ask({"code": "os.execv('/bin/sleep', ['sleep', at])", "at": nap}))
        while not greedy.done():
            await asyncio.sleep(0.05)
            if alive("sleep", nap):
                kill_warm_process(f"{frail._work}/socket")
        reply = await greedy
        assert (reply.answer, reply.ending) == (None, Ending.MEMORY_LIMIT)
    finally:
        await frail.close()


@pytest.mark.parametrize(
    ("warm_up", "words"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", "2 threads"),
        ("raise RuntimeError('no such library')", "no such library"),
    ],
)
async def test_a_warm_up_that_cannot_be_forked_from_is_refused(warm, warm_up, words):
    bad = WarmSandbox(warm._sandbox, program(warm_up), limits=LIMITS)
    with pytest.raises(SandboxUnavailable, match=f"(?s)didn't start.*{words}"):
        await bad.ask({"code": ""})
    await bad.close()


async def test_without_a_sandbox_there_is_no_warm_process():
    bare = WarmSandbox(default_sandbox(Isolation.NONE), program(), limits=LIMITS)
    with pytest.raises(SandboxUnavailable):
        await bare.ask({"code": ""})
    await bare.close()


COLD = """
import json
from pathlib import Path
from pawl_worker import worker
worker.install("interpret")
found, outputs = worker.answer(json.loads(Path("request").read_bytes()), Path("blob").read_bytes(), Path.cwd())
Path("answer").write_text(json.dumps(found))
Path("outputs").write_bytes(outputs)
"""

POISON = """
import os, sys, torch, triton
def spoilt(*_, **__):
    return torch.zeros(1)
torch.sigmoid = torch.Tensor.sigmoid = torch.nn.functional.layer_norm = torch.empty = spoilt
torch.set_num_threads(2)
triton.language.dot = triton.language.sum = spoilt
triton.runtime.interpreter.InterpretedFunction.run = spoilt
sys.modules["pawl_worker.candidate"].run = sys.modules["pawl_worker.worker"].answer = spoilt
sys.modules["numpy"].asarray = spoilt
os.environ["TRITON_CACHE_DIR"] = os.environ["HOME"] = "/tmp"
def custom_kernel(data):
    os._exit(0)
"""


async def cold_answer(sandbox, work, request, blob):
    parts = kernel_program(Mode.INTERPRET)
    for name, data in {**parts.bundle, "request": json.dumps(request).encode(), "blob": blob}.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(data)
    command = Command(
        argv=(sys.executable, "-B", "-c", COLD),
        work=work,
        env=dict(parts.env),
        limits=Limits(wall_seconds=120, memory_bytes=0, total_memory_bytes=6 << 30),
        use=Use.KERNEL,
    )
    result = await sandbox.run(command)
    assert result.status == 0, result
    return json.loads(read_result(work, "answer", 1 << 20)), read_result(work, "outputs", 1 << 26)


async def test_kernels_get_the_answers_of_a_fresh_process_after_a_candidate_that_poisons(tmp_path):
    sandbox, problem = default_sandbox(), TriMul()
    case = problem.correctness()[0]
    inputs = {f"0/{name}": array for name, array in problem.inputs(case, 5).items()}
    specs = {name: spec.model_dump(mode="json") for name, spec in problem.specs(case).items()}
    call = {"specs": specs, "arguments": problem.arguments(case), "again": None}
    request = {"kind": "record", "lazy": False, "execute": True, "configs": {}, "modules": {}, "calls": [call]}
    good = request | {"source": problem.render(problem.space.sample(3))}
    process = KernelProcess(sandbox, Mode.INTERPRET, ChildLimits(), 2)
    try:
        assert "error" in (await process.ask(request | {"source": POISON}, save(inputs)))[0]
        warm = await process.ask(good, save(inputs))
    finally:
        await process.close()
    assert warm[0]["calls"][0]["steps"]
    (tmp_path / "work").mkdir()
    assert warm == await cold_answer(sandbox, tmp_path / "work", good, save(inputs))


CACHED = """
import triton, triton.language as tl
@triton.jit
def twice(x_ptr, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(x_ptr + i, tl.load(x_ptr + i) * 2)
"""


async def test_a_compilation_reads_no_cache_that_another_request_wrote():
    job = {
        "module": 0, "kernel": "twice", "signature": {"x_ptr": "*fp32"}, "constexprs": {"N": 64},
        "divisible": ["x_ptr"],
        "options": {"num_warps": 1},
    }  # fmt: skip
    spoil = (
        CACHED
        + """
from pathlib import Path
from triton import knobs
for folder in (Path(knobs.cache.dir), Path.home(), Path("/tmp")):
    try:
        (folder / "spoilt").mkdir(parents=True)
    except OSError:
        pass
raise SystemExit(str(knobs.cache.dir) + " " + str(len(list(Path(knobs.cache.dir).rglob("*")))))
"""
    )
    process = KernelProcess(default_sandbox(), Mode.COMPILE, ChildLimits(), 2)
    try:
        first = await process.ask({"kind": "compile", "modules": [CACHED], "jobs": [job]})
        spoilt = await process.ask({"kind": "compile", "modules": [spoil], "jobs": [job]})
        again = await process.ask({"kind": "compile", "modules": [CACHED], "jobs": [job]})
    finally:
        await process.close()
    assert first[0]["answers"][0]["registers"] > 0
    assert spoilt[0]["error"][1].endswith(" 1")  # nothing in the cache but what it made itself
    assert again == first
