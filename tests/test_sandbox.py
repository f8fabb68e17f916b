"""Promises of the sandbox, kept under each set of layers that this machine offers."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pawl.core import ConfigurationError, SandboxUnavailable
from pawl.safety import (
    Command,
    Ending,
    Isolation,
    Layer,
    Limits,
    Mount,
    default_sandbox,
    probe,
    read_result,
)
from pawl.safety.sandbox import isolation, local
from pawl.safety.sandbox.untrusted import parse_untrusted

SETS = [Isolation.BUBBLEWRAP, Isolation.LANDLOCK]
SECRET = "sealed-3f1c"


def sandbox_of(isolation):
    reason = local.why_not(isolation)
    if reason:
        pytest.skip(reason)
    return default_sandbox(isolation)


@pytest.fixture(params=SETS)
def sandbox(request):
    return sandbox_of(request.param)


@pytest.fixture(params=[*SETS, "bubblewrap on a kernel without Landlock"])
def any_sandbox(request, monkeypatch):
    if request.param in SETS:
        return sandbox_of(request.param)
    sandbox = sandbox_of(Isolation.BUBBLEWRAP)
    monkeypatch.setattr(isolation, "landlock_abi", lambda: 0)
    assert Layer.LANDLOCK not in sandbox.layers
    return sandbox


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


async def python(sandbox, work, source, *, limits=None, **more):
    command = Command(
        argv=(sys.executable, "-S", "-c", source), work=work, limits=limits or Limits(wall_seconds=20), **more
    )
    return await sandbox.run(command)


async def attempts(sandbox, work, source, **more):
    """Run a program of `attempt("name", thunk)` lines; returns what each achieved, or its errno."""
    prelude = """
import ctypes, json, os, signal, socket, sys
found = {}
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return "done"
def attempt(name, thunk):
    try:
        found[name] = str(thunk())
    except OSError as error:
        found[name] = "refused"
"""
    result = await python(sandbox, work, f"{prelude}\n{source}\nprint(json.dumps(found))", **more)
    assert result.ending is Ending.EXITED, result
    assert result.status == 0, result.stderr.decode()
    return json.loads(result.stdout)


async def test_a_program_gets_its_folder_its_input_and_its_environment(sandbox, work):
    source = """
import os, sys
open("made", "w").write(sys.stdin.read())
print(os.getcwd(), os.environ["HOME"], os.environ["TMPDIR"], os.environ["GIVEN"])
print("words", file=sys.stderr)
sys.exit(3)
"""
    result = await python(sandbox, work, source, stdin=b"x" * 200_000, env={"GIVEN": "g"})
    assert (result.ending, result.status, result.stderr) == (Ending.EXITED, 3, b"words\n")
    assert result.stdout.decode().split() == [str(work)] * 3 + ["g"]
    assert read_result(work, "made", 1 << 20) == b"x" * 200_000
    assert result.cpu_seconds > 0


async def test_nothing_of_the_host_can_be_read(any_sandbox, work, tmp_path, monkeypatch):
    (tmp_path / "judge").mkdir(mode=0o700)
    (tmp_path / "judge" / "gold.json").write_text(SECRET)
    (tmp_path / "pawl.sqlite").write_text(SECRET)
    (work.parent / "other").mkdir()
    (work / "link").symlink_to(tmp_path / "judge" / "gold.json")
    monkeypatch.setenv("PROVIDER_KEY", SECRET)
    repository = Path(local.__file__).parent.parent
    source = f"""
def read(path):
    with open(path, "rb") as file:
        return file.read(1 << 16)
places = {[str(tmp_path / "judge" / "gold.json"), str(tmp_path / "pawl.sqlite"), str(repository / "pyproject.toml")]!r}
places += ["link", "/etc/shadow", "/root/.bashrc", "/proc/{os.getpid()}/environ", "/proc/1/environ"]
for path in places:
    attempt(path, lambda: "read" if read(path) else "empty")
secret, seen = {SECRET[::-1]!r}[::-1].encode(), []
for pid in range(1, os.getpid() + 200):
    for name in ("environ", "cmdline", "maps"):
        try:
            seen.append(secret in read(f"/proc/{{pid}}/{{name}}"))
        except OSError:
            pass
found["secret in /proc"] = any(seen)
found["environment"] = secret.decode() in str(os.environ)
"""
    found = await attempts(any_sandbox, work, source)
    assert found.pop("secret in /proc") is False
    assert found.pop("environment") is False
    # Process 1 of a namespace of its own is the wrapper, which was given no environment but the program's.
    mine = found.pop("/proc/1/environ")
    assert mine == "refused" or Layer.NAMESPACES in any_sandbox.layers
    assert set(found.values()) <= {"refused", "empty"}, found


async def test_no_descriptor_is_inherited(sandbox, work, tmp_path):
    (tmp_path / "gold").write_text(SECRET)
    descriptor = os.open(tmp_path / "gold", os.O_RDONLY)
    os.dup2(descriptor, 97, inheritable=True)
    try:
        found = await attempts(sandbox, work, "for n in range(256): attempt(n, lambda: os.fstat(n))")
    finally:
        os.close(97)
        os.close(descriptor)
    assert {int(name) for name, value in found.items() if value != "refused"} == {0, 1, 2}


async def test_no_socket_leads_out_but_the_one_that_is_mounted(sandbox, work, tmp_path):
    accepted: list[str] = []

    def server(name):
        async def serve(reader, writer):
            accepted.append(name)
            writer.write(await reader.read(4))
            writer.close()

        return serve

    granted, other, abstract = str(tmp_path / "granted"), str(tmp_path / "other"), "\0pawl-test-abstract"
    tcp = await asyncio.start_server(server("tcp"), "127.0.0.1", 0)
    port = tcp.sockets[0].getsockname()[1]
    servers = [tcp] + [await asyncio.start_unix_server(server(path), path) for path in (granted, other, abstract)]
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(str(tmp_path / "datagrams"))
    datagrams.setblocking(False)
    source = f"""
def talk(family, address):
    with socket.socket(family) as s:
        s.settimeout(3)
        s.connect(address)
        s.sendall(b"ping")
        return s.recv(4).decode()
attempt("granted", lambda: talk(socket.AF_UNIX, {granted!r}))
attempt("tcp", lambda: talk(socket.AF_INET, ("127.0.0.1", {port})))
attempt("tcp6", lambda: talk(socket.AF_INET6, ("::1", {port})))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {port})))
attempt("raw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("name", lambda: socket.getaddrinfo("example.com", 80))
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    for make in (lambda: socket.socket(socket.AF_UNIX, kind), lambda: socket.socketpair(socket.AF_UNIX, kind)[0]):
        attempt(f"datagram {{kind}} {{make}}", lambda: make().sendto(b"x", {str(tmp_path / "datagrams")!r}))
for address in ({other!r}, {abstract!r}):
    attempt(f"stranger {{len(found)}}", lambda: talk(socket.AF_UNIX, address))
"""
    try:
        found = await attempts(sandbox, work, source, mounts=(Mount(path=Path(granted)),))
        without = await attempts(sandbox, work, source)
        with pytest.raises(BlockingIOError):
            datagrams.recv(1)
    finally:
        datagrams.close()
        for each in servers:
            each.close()
    assert found.pop("granted") == "ping"
    # Without a mount namespace every address is answered by the one socket that was granted.
    strangers = {found.pop(name) for name in list(found) if name.startswith("stranger")}
    assert strangers == ({"refused"} if Layer.NAMESPACES in sandbox.layers else {"ping"})
    assert set(accepted) == {granted}
    assert set(found.values()) | set(without.values()) == {"refused"}


async def test_no_process_outside_can_be_touched(any_sandbox, work, tmp_path):
    (tmp_path / "file").write_text("x")
    before = os.stat(tmp_path / "file")
    got: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
    source = f"""
parent = {os.getpid()}
attempt("signal", lambda: os.kill(parent, 0))
attempt("usr1", lambda: os.kill(parent, signal.SIGUSR1))
attempt("thread", lambda: check(libc.syscall(200, parent, 10)))
attempt("queue", lambda: check(libc.syscall(129, parent, 10, ctypes.byref((ctypes.c_int * 32)(10, 0, -1)))))
attempt("pidfd", lambda: check(libc.syscall(424, os.pidfd_open(parent), 10, None, 0)))
attempt("attach", lambda: check(libc.ptrace(16, parent, 0, 0)))
attempt("memory", lambda: open(f"/proc/{{parent}}/mem", "rb"))
attempt("descriptors", lambda: os.listdir(f"/proc/{{parent}}/fd"))
for pid in (1, os.getppid()):
    for number in range(40):
        for mode in (os.O_RDONLY, os.O_WRONLY):
            attempt(f"launcher's {{pid}} {{number}} {{mode}}", lambda: os.open(f"/proc/{{pid}}/fd/{{number}}", mode))
attempt("limits", lambda: check(libc.prlimit(parent, 7, (ctypes.c_ulong * 2)(3, 3), None)))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, 19))
attempt("affinity", lambda: os.sched_setaffinity(parent, {{0}}))
attempt("mode", lambda: os.chmod({str(tmp_path / "file")!r}, 0o777))
attempt("time", lambda: os.utime({str(tmp_path / "file")!r}, (1, 1)))
attempt("cut", lambda: os.truncate({str(tmp_path / "file")!r}, 0))
attempt("remove", lambda: os.unlink({str(tmp_path / "file")!r}))
attempt("link", lambda: os.link({str(tmp_path / "file")!r}, "linked"))
"""
    try:
        found = await attempts(any_sandbox, work, source)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert set(found.values()) == {"refused"}, found
    assert got == []
    after = os.stat(tmp_path / "file")
    assert (after.st_mode, after.st_mtime, after.st_size) == (before.st_mode, before.st_mtime, before.st_size)


async def test_the_system_cannot_be_written_or_reconfigured(any_sandbox, work, tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("x")
    source = f"""
def write(path):
    open(path, "a").close()
    return "opened"
for path in ("/usr/x", "/etc/x", "/proc/sys/kernel/core_pattern", "/tmp/x", "/dev/shm/x", "/dev/sda", "/root/x",
             {str(tmp_path / "x")!r}, {str(tmp_path / "given" / "file")!r}, {str(tmp_path / "given" / "new")!r},
             {str(Path(local.__file__))!r}, sys.prefix + "/x"):
    attempt(path, lambda: write(path))
attempt("users", lambda: check(libc.unshare(0x10000000)))
attempt("mounts", lambda: check(libc.unshare(0x00020000)))
attempt("clone", lambda: check(libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)))
attempt("mount", lambda: check(libc.mount(b"none", b".", b"tmpfs", 0, None)))
attempt("chroot", lambda: os.chroot("."))
attempt("keys", lambda: check(libc.syscall(250, 0, -3, 1)))
attempt("bpf", lambda: check(libc.syscall(321, 0, 0, 0)))
attempt("uring", lambda: check(libc.syscall(425, 1, ctypes.create_string_buffer(120))))
attempt("perf", lambda: check(libc.syscall(298, ctypes.create_string_buffer(120), 0, -1, -1, 0)))
attempt("shared memory", lambda: check(libc.shmget(77, 4096, 0o1666)))
attempt("device", lambda: os.mknod("d", 0o20666, 0x103))
attempt("x32", lambda: check(libc.syscall(0x40000000 + 39)))
found["capabilities"] = [line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1]
attempt("user", lambda: os.setuid(1234) or "changed")
"""
    found = await attempts(any_sandbox, work, source, mounts=(Mount(path=tmp_path / "given"),))
    assert int(found.pop("capabilities"), 16) == 0
    assert set(found.values()) == {"refused"}, found


def alive(marker):
    """Processes with the marker on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path("/proc", pid, "cmdline").read_bytes()
            state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if marker.encode() in command and state != "Z":
            found.append(int(pid))
    return found


async def gone(marker):
    for _ in range(100):
        if not alive(marker):
            return True
        await asyncio.sleep(0.02)
    return False


LEAVE = """
import os, subprocess, sys, time
for leave in (os.setsid, lambda: os.setpgid(0, 0)):
    if os.fork() == 0:
        try: leave()
        except OSError: pass
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", "{nap}"])
        os._exit(0)
time.sleep(0.2)
{then}
"""


@pytest.mark.parametrize("then", ["", "time.sleep(999)", "os.abort()", "while True: print('x' * 9999)"])
async def test_no_process_is_left_behind(sandbox, work, then):
    nap = f"{os.getpid()}.{time.monotonic_ns() % 10**9}"
    limits = Limits(wall_seconds=1.5, output_bytes=50_000)
    await python(sandbox, work, LEAVE.format(nap=nap, then=then), limits=limits)
    assert await gone(nap)


async def test_no_process_outlives_a_controller_that_is_killed(work, sandbox):
    nap = f"{os.getpid()}.{time.monotonic_ns() % 10**9}"
    source = LEAVE.format(nap=nap, then=f"os.execv('/bin/sleep', ['sleep', '{nap}'])")
    controller = f"""
import asyncio
from pathlib import Path
from pawl.safety import Command, default_sandbox, Isolation
command = Command(argv=({sys.executable!r}, "-S", "-c", {source!r}), work=Path({str(work)!r}))
asyncio.run(default_sandbox(Isolation({sandbox.isolation.value!r})).run(command))
"""
    process = subprocess.Popen([sys.executable, "-c", controller])
    for _ in range(500):
        await asyncio.sleep(0.02)
        if len([pid for pid in alive(nap) if b"sleep" in Path("/proc", str(pid), "cmdline").read_bytes()[:6]]) == 3:
            break
    else:
        pytest.fail("the sleepers did not start")
    process.kill()
    process.wait()
    assert await gone(nap)


async def test_a_run_ends_at_its_limits(sandbox, work):
    async def ending(source, **limits):
        result = await python(sandbox, work, source, limits=Limits(**{"wall_seconds": 40, **limits}))
        return result.ending, result

    how, result = await ending("while True: pass", wall_seconds=0.6)
    assert how is Ending.TIMED_OUT
    assert 0.01 < result.cpu_seconds < 2
    how, result = await ending(
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(99)", wall_seconds=0.4
    )
    assert how is Ending.TIMED_OUT
    assert result.wall_seconds < 30
    how, result = await ending("while True: pass", cpu_seconds=1)
    assert (how, result.status) == (Ending.SIGNALLED, signal.SIGKILL)
    how, result = await ending("import sys\nwhile True: sys.stderr.write('y' * 4096)", output_bytes=10_000)
    assert how is Ending.OUTPUT_LIMIT
    assert result.stderr == b"y" * 10_000
    how, result = await ending("x = bytearray(1 << 30)", memory_bytes=1 << 28)
    assert (how, result.status) == (Ending.EXITED, 1)
    assert b"MemoryError" in result.stderr
    how, result = await ending("open('big', 'wb').write(bytes(1 << 21))", file_bytes=1 << 20)
    assert result.status == 1
    assert (work / "big").stat().st_size <= 1 << 20
    how, result = await ending("import os; os.kill(os.getpid(), 11)")
    assert (how, result.status) == (Ending.SIGNALLED, signal.SIGSEGV)
    how, result = await ending("import sys; sys.exit(137)")
    assert (how, result.status) == (Ending.EXITED, 137)


async def test_no_program_is_made_that_runs_as_its_owner(any_sandbox, work):
    source = """
def made(how):
    if os.path.lexists("p"):
        os.unlink("p")
    how()
    return oct(os.stat("p").st_mode & 0o7777)
os.umask(0)
for bits in (0o4755, 0o2755, 0o6755):
    attempt(f"open {bits:o}", lambda: made(lambda: os.close(os.open("p", os.O_CREAT | os.O_WRONLY, bits))))
    attempt(f"creat {bits:o}", lambda: made(lambda: check(libc.syscall(85, b"p", bits))))
    attempt(f"mknod {bits:o}", lambda: made(lambda: os.mknod("p", 0o100000 | bits)))
    attempt(f"mode {bits:o}", lambda: made(lambda: (open("p", "w").close(), os.chmod("p", bits))))
    attempt(f"descriptor {bits:o}", lambda: made(lambda: os.fchmod(open("p", "w").fileno(), bits)))
    attempt(f"nameless {bits:o}", lambda: os.fstat(os.open(".", os.O_TMPFILE | os.O_RDWR, bits)) and "made")
how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0)
attempt("openat2", lambda: made(lambda: check(libc.syscall(437, -100, b"p", how, 24))))
found["plain"] = made(lambda: os.close(os.open("p", os.O_CREAT | os.O_WRONLY, 0o751)))
"""
    found = await attempts(any_sandbox, work, source)
    assert found.pop("plain") == "0o751"
    assert set(found.values()) == {"refused"}, found


async def test_a_program_that_is_not_there_is_data(sandbox, work):
    result = await sandbox.run(Command(argv=("no-such-program",), work=work))
    assert (result.ending, result.status) == (Ending.EXITED, 127)
    assert b"no-such-program" in result.stderr


async def test_a_program_does_as_it_likes_in_its_folder(sandbox, work):
    source = """
import os, signal, socket, subprocess, sys, tempfile
os.makedirs("a/b")
open("a/b/file", "w").write("x")
os.rename("a/b/file", "file")
os.link("file", "a/linked")
os.symlink("file", "link")
os.truncate("file", 0)
os.unlink("a/linked")
assert tempfile.mkdtemp().startswith(os.getcwd())
listener = socket.socket(socket.AF_UNIX)
listener.bind("socket")
child = subprocess.Popen(["sleep", "99"], start_new_session=True)
os.killpg(child.pid, signal.SIGKILL)
assert child.wait() == -9
one, other = socket.socketpair()
one.sendall(b"x")
print(os.listdir("/proc/self/fd") != [], other.recv(1))
"""
    result = await python(sandbox, work, source)
    assert (result.status, result.stdout) == (0, b"True b'x'\n"), result.stderr.decode()


async def test_pawl_and_the_environments_packages_can_be_imported(sandbox, work):
    source = "import pawl.core, pawl.safety, pydantic; print(pawl.core.digest_bytes(b''))"
    result = await sandbox.run(Command(argv=(sys.executable, "-c", source), work=work))
    assert result.status == 0, result.stderr.decode()


async def test_runs_side_by_side_do_not_meet(sandbox, work, tmp_path):
    folders = [tmp_path / f"w{n}" for n in range(6)]
    for folder in folders:
        folder.mkdir()
    source = "import os; open('mine', 'x'); print(sorted(os.listdir('.')))"
    results = await asyncio.gather(*(python(sandbox, folder, source) for folder in folders))
    assert {result.stdout for result in results} == {b"['mine']\n"}


async def test_what_cannot_be_confined_is_not_started(work, monkeypatch):
    sandbox = sandbox_of(Isolation.LANDLOCK)
    monkeypatch.setattr(isolation, "assemble", lambda **_: b"\xff" * 8)
    with pytest.raises(SandboxUnavailable, match=r"not started: OSError: .*seccomp"):
        await python(sandbox, work, "open('ran', 'w')")
    assert list(work.iterdir()) == []


async def test_a_wrapper_that_fails_is_not_the_programs_failure(work, tmp_path, monkeypatch):
    sandbox_of(Isolation.BUBBLEWRAP)
    monkeypatch.setattr(isolation, "bubblewrap", lambda: "/bin/false")
    with pytest.raises(SandboxUnavailable, match="did not start"):
        await python(local.LocalSandbox(Isolation.BUBBLEWRAP), work, "")


def test_a_machine_without_layers_is_refused(monkeypatch):
    monkeypatch.setattr(local, "why_not", lambda isolation: "not here")
    with pytest.raises(SandboxUnavailable, match=r"bubblewrap: not here; landlock: not here.*Install bubblewrap"):
        default_sandbox()
    with pytest.raises(SandboxUnavailable, match="No landlock sandbox here: not here"):
        default_sandbox(Isolation.LANDLOCK)


def test_the_report_names_every_layer_once():
    reports = probe()
    assert [report.layer for report in reports] == list(Layer)
    active = {report.layer for report in reports if report.present}
    assert active == default_sandbox().layers
    assert all(report.detail for report in reports)


async def test_a_relative_path_is_refused(sandbox, work):
    with pytest.raises(ConfigurationError, match="relative path"):
        await python(sandbox, work, "", mounts=(Mount(path=Path("x")),))


def test_results_are_read_without_following_anything(tmp_path):
    work, outside = tmp_path / "work", tmp_path / "gold"
    (work / "sub").mkdir(parents=True)
    outside.write_text(SECRET)
    (work / "plain").write_bytes(b"abc")
    (work / "sub" / "deep").write_bytes(b"deep")
    (work / "link").symlink_to(outside)
    (work / "folder").symlink_to(tmp_path)
    os.link(outside, work / "hard")
    os.mkfifo(work / "pipe")
    assert read_result(work, "plain", 3) == b"abc"
    assert read_result(work, "sub/deep", 9) == b"deep"
    for name in ("link", "folder/gold", "hard", "pipe", "sub", "missing"):
        assert read_result(work, name, 1 << 20) is None, name
    assert read_result(work, "plain", 2) is None
    with pytest.raises(ConfigurationError):
        read_result(work, "../gold", 99)


@pytest.mark.parametrize(
    "data", [b"{", b"\xff", b"[NaN]", b"1e999", b'"\\ud800"', b"[" * 99999, b"[" * 70 + b"]" * 70, b"9" * 5000]
)
def test_json_that_would_upset_the_reader_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        parse_untrusted(data)


def test_ordinary_json_is_parsed():
    assert parse_untrusted(b'{"a": [1, 2.5, null, "\\u00e9"]}') == {"a": [1, 2.5, None, "é"]}
