"""The last trusted step before a sandboxed program: confines itself, then becomes that program.

Run as `python -I -S -c "..." KEY=VALUE ... -- PROGRAM ARGUMENT ...` by `isolation.py`, which decides everything; this
file only carries it out. It imports no package and little of the standard library, because every run pays for it.

| key | meaning |
|---|---|
| status=FD | descriptor to tell `ok` on, or what went wrong, before the program starts; then its status and CPU time |
| rlimit=NUMBER:VALUE | a resource limit |
| landlock=ABI | restrict files to the `read`, `list`, `write` and `device` paths |
| filter=HEX | a seccomp program |
| drop=1 | give up every capability |
| parent=PID | end everything when this process, the launcher's parent, ends (bubblewrap sees to that itself) |
| scope=1 | keep signals inside a Landlock domain, so that one call can end everything in it |
| connect=PATH | `connect`, of whatever address, reaches this Unix socket and nothing else |
| cover=FOLDER | hide this folder, which the user can't pass, and show in its place the paths above that lie in it |
| uncover=FOLDER | unmount what bubblewrap put over this part of /proc: else no process below could mount a new one |
| user=UID:GROUP | become this user, with a group of the same number and one more |
| cwd=FOLDER | go there, once the user is who it will be |
| cgroup=FD | a control group's list of processes, which the program joins |
| forward=PORT:PATH | 127.0.0.1:PORT, in a network namespace, leads to this Unix socket; Landlock opens no other port |
| tcp=1 | Landlock leaves TCP alone: the program has a network namespace of its own, and its processes talk there |

The launcher stays as the program's parent, outside its confinement.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import _signal  # the module behind `signal`, which costs 4 ms to import
import _socket
import ctypes
import os
import resource
import select
import sys

Channel = _socket.socket | None

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 1, 4, 24, 28
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_NR_SECCOMP, _NR_LANDLOCK_CREATE, _NR_LANDLOCK_ADD, _NR_LANDLOCK_RESTRICT, _NR_CAPSET = 317, 444, 445, 446, 126
_SECCOMP_FILTER, _NEW_LISTENER = 1, 1 << 3
_NOTIFY_RECEIVE, _NOTIFY_SEND, _NOTIFY_ADD_FD = 0xC0502100, 0xC0182101, 0x40182103
_SECUREBITS = 0x2F  # NOROOT, NO_SETUID_FIXUP and their locks, KEEP_CAPS_LOCKED

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_REFER = 1 << 13
_NEW_MOUNTS = 0x20000
_MS_READ_ONLY, _MS_NO_SUID, _MS_NO_DEVICES, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 1 << 5, 1 << 12
_MS_RECURSIVE, _MS_PRIVATE = 1 << 14, 1 << 18
_MNT_DETACH = 2
_CONNECT_TCP = 1 << 1
_MAKE_DEVICES = 1 << 6 | 1 << 11
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = ((1 << 15) - 1) & ~_MAKE_DEVICES
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_RIGHTS = {
    "read": _READ,
    "list": _READ_DIR,
    "write": _WRITE,
    "device": _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV,
}


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


class _Port(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


class _Notification(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("number", ctypes.c_int32),
        ("arch", ctypes.c_uint32),
        ("pointer", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    ]


class _Answer(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_uint64),
        ("value", ctypes.c_int64),
        ("error", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    ]


class _AddDescriptor(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("source", ctypes.c_uint32),
        ("target", ctypes.c_uint32),
        ("target_flags", ctypes.c_uint32),
    ]


def call(what: str, *arguments: object) -> int:
    """A raw system call that raises what went wrong."""
    result = _libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def prctl(option: int, value: int) -> int:
    """The call of that name; -1 where it is refused."""
    return _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()):
        raise OSError(ctypes.get_errno(), f"mount on {target}: {os.strerror(ctypes.get_errno())}")


def _cover(folders: list[str], paths: list[tuple[str, str]]) -> None:
    """In mounts of its own, put an empty folder over each of these, and in it what the program may see.

    So that a user passes who may not enter them on the host. What one folder shows anew needs no covering itself.
    """
    if _libc.unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")
    _mount("none", "/", "none", _MS_RECURSIVE | _MS_PRIVATE)
    before = os.umask(0o022)
    for folder in folders:
        if os.stat(folder).st_mode & 1:
            continue
        kept: list[tuple[str, int]] = []
        for path in sorted({path for _, path in paths if path.startswith(f"{folder}/")}):
            try:
                kept.append((path, os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)))
            except FileNotFoundError:
                continue
        _mount("tmpfs", folder, "tmpfs", _MS_NO_SUID | _MS_NO_DEVICES, "mode=755,size=1m")
        for path, found in kept:
            if not os.path.lexists(path):
                _show(path, found)
            os.close(found)
        _mount("none", folder, "none", _MS_REMOUNT | _MS_BIND | _MS_READ_ONLY)
    os.umask(before)


def _show(path: str, found: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    kind = os.fstat(found).st_mode & 0o170000
    if kind == 0o120000:
        os.symlink(os.readlink("", dir_fd=found), path)
        return
    if kind == 0o040000:
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC))
    _mount(f"/proc/self/fd/{found}", path, "none", _MS_BIND | _MS_RECURSIVE)


def _switch_user(user: int, group: int) -> None:
    """Become an ordinary user for good: the kernel takes the capabilities away with root's id."""
    _drop_bounding_set()
    os.setgroups([group])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _drop_bounding_set() -> None:
    capability = 0
    while prctl(_PR_CAPBSET_DROP, capability) == 0:
        capability += 1


def _drop_capabilities() -> None:
    _drop_bounding_set()
    prctl(_PR_SET_SECUREBITS, _SECUREBITS)  # refused to an ordinary user, who needs none of it
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    call("capset", _NR_CAPSET, header, (ctypes.c_uint32 * 6)())


def scope_signals(parent: int) -> None:
    """Enter a Landlock domain that no signal leaves.

    The program enters a domain within it, and so can signal nothing here, while `kill(-1)` from here reaches
    everything the program ever started, whichever process group or session it went to, and nothing else.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Every domain refuses renaming between folders unless it says otherwise, so this one allows it everywhere.
    attributes = _Ruleset(_REFER, 0, 0b10)
    ruleset = call("landlock_create_ruleset", _NR_LANDLOCK_CREATE, ctypes.byref(attributes), ctypes.c_size_t(24), 0)
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    rule = _PathBeneath(_REFER, root)
    call("landlock_add_rule", _NR_LANDLOCK_ADD, ruleset, 1, ctypes.byref(rule), 0)
    os.close(root)
    call("landlock_restrict_self", _NR_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)
    try:
        os.kill(parent, 0)
    except PermissionError:
        return
    raise OSError("Landlock does not keep signals inside")


def _restrict_files(abi: int, paths: list[tuple[str, str]], ports: list[int] | None) -> None:
    """Landlock; a path that isn't there is skipped, since there is nothing to allow.

    Args:
        abi: version of the kernel's interface.
        paths: what is allowed, and how.
        ports: to which TCP may connect; none leaves TCP alone.
    """
    handled = (1 << 16) - 1 if abi >= 5 else (1 << 15) - 1
    attributes = _Ruleset(handled, 0b11 if abi >= 4 and ports is not None else 0, 0b11 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = call("landlock_create_ruleset", _NR_LANDLOCK_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    for kind, path in paths:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            continue
        allowed = _RIGHTS[kind] & handled
        if os.fstat(folder).st_mode & 0o170000 != 0o040000:
            allowed &= _ON_FILES
        if allowed:
            rule = _PathBeneath(allowed, folder)
            call(f"landlock_add_rule {path}", _NR_LANDLOCK_ADD, ruleset, 1, ctypes.byref(rule), 0)
        os.close(folder)
    for port in (ports or ()) if abi >= 4 else ():
        door = _Port(_CONNECT_TCP, port)
        call(f"landlock_add_rule port {port}", _NR_LANDLOCK_ADD, ruleset, 2, ctypes.byref(door), 0)
    call("landlock_restrict_self", _NR_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _filter_calls(code: bytes, *, listen: bool) -> int:
    """Seccomp; with `listen`, the descriptor on which a supervisor is asked."""
    program = _Program(len(code) // 8, code)
    return call("seccomp", _NR_SECCOMP, _SECCOMP_FILTER, _NEW_LISTENER if listen else 0, ctypes.byref(program))


def confine(options: dict[str, list[str]], paths: list[tuple[str, str]], keep: set[int], channel: Channel) -> None:
    """Confine this process, whose only descriptors are then standard ones and those to keep.

    Args:
        options: what `read_options` found.
        paths: what Landlock allows.
        keep: descriptors that stay open, none of which a program that is executed inherits.
        channel: where the descriptor goes on which a supervisor is asked for `connect`; it is closed here.

    Raises:
        OSError: a layer was refused; the process must not go on.
    """
    start = 3
    for descriptor in sorted(keep if channel is None else {*keep, channel.fileno()}):
        os.closerange(start, descriptor)
        os.set_inheritable(descriptor, False)
        start = descriptor + 1
    os.closerange(start, 1 << 20)
    if prctl(_PR_SET_NO_NEW_PRIVS, 1):
        raise OSError("no_new_privs was refused")
    if "drop" in options:
        _drop_capabilities()
    if "landlock" in options:
        ports = [int(route.partition(":")[0]) for route in options.get("forward", [])]
        _restrict_files(int(options["landlock"][0]), paths, None if "tcp" in options else ports)
    for limit in options.get("rlimit", []):
        number, value = map(int, limit.split(":"))
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    if "filter" in options:
        listener = _filter_calls(bytes.fromhex(options["filter"][0]), listen=channel is not None)
        if channel is not None:
            rights = listener.to_bytes(4, sys.byteorder)
            channel.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            os.close(listener)
            channel.close()


def _become(options: dict[str, list[str]], paths: list[tuple[str, str]], argv: list[str], channel: Channel) -> None:
    """Confine this process and run the program in it; returns never."""
    status = int(options["status"][0])
    try:
        for group in options.get("cgroup", []):
            os.write(int(group), b"0")
        confine(options, paths, {status}, channel)
        os.write(status, b"ok")
    except BaseException as error:
        os.write(status, f"{type(error).__name__}: {error}".encode())
        os._exit(126)
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _connect_for(listener: int, target: int) -> None:
    """Answer one `connect`: put a socket connected to `target`, a path's descriptor, in the place of the program's own.

    The address the program gave is never read, so there is nothing to swap between check and use.
    """
    asked = _Notification()
    if _libc.ioctl(listener, ctypes.c_ulong(_NOTIFY_RECEIVE), ctypes.byref(asked)):
        return
    answer = _Answer(asked.id, 0, 0, 0)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{target}")
        added = _AddDescriptor(asked.id, 1, connection.fileno(), asked.arguments[0], 0)
        if _libc.ioctl(listener, ctypes.c_ulong(_NOTIFY_ADD_FD), ctypes.byref(added)) < 0:
            answer.error = -ctypes.get_errno()
    except OSError as error:
        answer.error = -(error.errno or 111)
    finally:
        connection.close()
    _libc.ioctl(listener, ctypes.c_ulong(_NOTIFY_SEND), ctypes.byref(answer))


def _supervise(options: dict[str, list[str]], paths: list[tuple[str, str]], argv: list[str]) -> None:
    """Run the program as a child of this process, which outlives it to end what it leaves behind."""
    status, parent = int(options["status"][0]), int(options.get("parent", ["0"])[0])
    scoped, connect = "scope" in options, options.get("connect", [None])[0]
    try:
        target = -1 if connect is None else os.open(connect, os.O_PATH | os.O_CLOEXEC)
        if "cover" in options:
            _cover(options["cover"], paths)
        for folder in options.get("uncover", []):
            _libc.umount2(folder.encode(), _MNT_DETACH)  # refused where nothing lies over it
        if scoped:
            scope_signals(parent)
        if "user" in options:
            _switch_user(*map(int, options["user"][0].split(":")))
        for folder in options.get("cwd", []):
            os.chdir(folder)
    except OSError as error:
        os.write(status, str(error).encode())
        os._exit(126)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _signal.signal(_signal.SIGTERM, lambda *_: finish(status, scoped, _signal.SIGKILL))
    if parent or "user" in options:  # a change of user forgets what bubblewrap asked for
        prctl(_PR_SET_PDEATHSIG, _signal.SIGTERM)
    if os.getppid() != parent:  # 0 where this is the first process of a namespace
        os._exit(126)
    ours, theirs = _socket.socketpair() if connect else (None, None)
    for route in options.get("forward", []):
        _forward(status, *route.split(":", 1))
    prctl(_PR_SET_DUMPABLE, 0)  # so that the program, which is so again, can't open this process's descriptors by /proc
    child = os.fork()
    if child == 0:
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
        prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL)
        _become(options, paths, argv, theirs)
    poll = select.poll()
    ended = os.pidfd_open(child)
    poll.register(ended, select.POLLIN)
    poll.register(status, 0)  # an error on it says that the controller is gone, whoever missed its death
    listener = -1
    if connect and ours is not None and theirs is not None:
        theirs.close()
        _, rights, _, _ = ours.recvmsg(1, _socket.CMSG_SPACE(4))
        if rights:
            listener = int.from_bytes(rights[0][2][:4], sys.byteorder)
            poll.register(listener, select.POLLIN)
    while True:
        for descriptor, event in poll.poll():
            if descriptor == ended:
                finish(status, scoped, os.waitpid(child, 0)[1])
            elif descriptor == status:
                finish(status, scoped, _signal.SIGKILL)
            elif event & select.POLLIN:
                _connect_for(listener, target)
            else:
                poll.unregister(listener)


def _forward(status: int, port: str, path: str) -> None:
    """Start the loopback forwarder, or say why it doesn't."""
    import forwarder

    def hide() -> None:
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
        prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL)
        prctl(_PR_SET_DUMPABLE, 0)

    try:
        forwarder.start(int(port), path, hide)
    except OSError as error:
        os.write(status, f"127.0.0.1:{port} can't be forwarded: {error}".encode())
        os._exit(126)


def finish(status: int, scoped: bool, code: int) -> None:
    """End what is left of the program, tell its wait status and the CPU time of all of it, and leave.

    Without a scope, and outside a namespace, the controller's signal to the process group ends what is left.
    """
    if scoped or os.getpid() == 1:  # the first process of a namespace can signal nothing outside it
        try:  # noqa: SIM105 (contextlib takes long to import)
            os.kill(-1, _signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing was left
        try:
            while True:
                os.wait()
        except ChildProcessError:
            pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:  # noqa: SIM105
        os.write(status, f" {code} {used.ru_utime + used.ru_stime:.6f}".encode())
    except BrokenPipeError:
        pass  # nobody is left to tell
    os._exit(0)


def read_options(arguments: list[str]) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Sort `KEY=VALUE` arguments into options and paths."""
    options: dict[str, list[str]] = {}
    paths: list[tuple[str, str]] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in _RIGHTS:
            paths.append((key, value))
        else:
            options.setdefault(key, []).append(value)
    return options, paths


def main() -> None:
    """Read the command line, run the program, and never return."""
    split = sys.argv.index("--")
    _supervise(*read_options(sys.argv[1:split]), sys.argv[split + 1 :])
