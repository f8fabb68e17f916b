"""The system-call filter of a sandboxed program, assembled as classic BPF for x86-64.

    program = assemble(shared=True, connect=False)

What is refused answers EPERM, so that a program sees an ordinary error. Numbers are those of
`arch/x86/entry/syscalls/syscall_64.tbl`; the program's format is that of seccomp(2).
"""

import struct
from collections.abc import Iterable

_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_KILL, _ERRNO, _NOTIFY, _ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
_EPERM, _ENOSYS = 1, 38
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06

_NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET."""
_BESIDE = 0x8000
"""CLONE_PARENT, by which a program gives its trusted parent a child that this one knows nothing of."""

_ALWAYS = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "process_madvise": 440, "kcmp": 312,
    "pidfd_getfd": 438, "userfaultfd": 323, "perf_event_open": 298, "bpf": 321,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
    "unshare": 272, "setns": 308, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "add_key": 248, "request_key": 249, "keyctl": 250,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313, "delete_module": 176,
    "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "syslog": 103, "quotactl": 179, "quotactl_fd": 443,
    "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "vhangup": 153, "fanotify_init": 300,
    "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240,
}  # fmt: skip

_TO_NEST = {"unshare", "setns", "mount", "umount2"}

_WHERE_SHARED = {
    # Landlock leaves the metadata of files alone, and their owner may be this very user.
    "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452,
    "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463,
    "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "removexattrat": 466,
    "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280, "file_setattr": 469, "inotify_add_watch": 254,
    "setpriority": 141, "ioprio_set": 251, "migrate_pages": 256, "move_pages": 279,
}  # fmt: skip

_OWN_PROCESS_ONLY = {
    "prlimit64": 302, "sched_setaffinity": 203, "sched_setscheduler": 144, "sched_setparam": 142, "sched_setattr": 314,
}  # fmt: skip

_SET_MODE = {"chmod": (90, 1), "fchmod": (91, 1), "fchmodat": (268, 2), "fchmodat2": (452, 2)}
_MAKE_FILE = {"mknod": (133, 1), "mknodat": (259, 2), "creat": (85, 1)}
_OPEN_FILE = {"open": (2, 1), "openat": (257, 2)}
"""Number of the call, and which argument is the mode; of `_OPEN_FILE`, the flags, which come before the mode."""
_OPENAT2 = 437
_SET_ID, _CREATE = 0o6000, 0x400040  # S_ISUID and S_ISGID; O_CREAT and the bit of O_TMPFILE

_SOCKET, _CONNECT, _SOCKETPAIR, _CLONE, _CLONE3, _IOCTL = 41, 42, 53, 56, 435, 16
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_NETLINK = 1, 2, 16
_SOCK_STREAM, _SOCK_RAW, _SOCK_TYPE_MASK, _IPPROTO_TCP, _NETLINK_ROUTE = 1, 3, 0xF, 6, 0


def assemble(
    *, shared: bool, connect: bool, loopback: bool = False, interfaces: bool = False, nested: bool = False
) -> bytes:
    """The filter's instructions, eight bytes each.

    Sockets may be Unix streams alone: no network, and no datagram that names its receiver. With `loopback`, TCP too.

    Args:
        shared: whether the program shares the host's process ids and files, because it has no namespaces. Then
            it may change no file's metadata and touch no other process's limits. (Landlock keeps its signals inside.)
        connect: with `shared`, whether a supervisor answers `connect` (user notification) or it is refused.
        loopback: whether the program has a network namespace of its own, with nothing but `lo` in it, and may make TCP
            sockets there.
        interfaces: whether it may also ask that namespace's kernel what interfaces there are, as `getifaddrs` does.
        nested: whether the program makes namespaces for its children, and puts a filter without this on each.
    """
    code = [_jump(_EQUAL, _ARCH_X86_64, 1, 0, load=4), _end(_KILL)]
    code += [_jump(_AT_LEAST, _X32_BIT, 0, 1, load=0), _end(_ERRNO | _EPERM)]
    code += [_refuse(number) for name, number in _ALWAYS.items() if not (nested and name in _TO_NEST)]
    code += [_refuse(_CLONE3, _ENOSYS)]  # its flags lie in memory, out of a filter's sight; libc then uses clone
    code += [_when(_CLONE, _jump(_ANY_BIT, _NAMESPACE_FLAGS | _BESIDE, 1, 0, load=_argument(0)), *_allow_else_refuse())]
    unix_stream = (
        _jump(_EQUAL, _AF_UNIX, 0, 4, load=_argument(0)),
        _op(_LOAD, _argument(1)),
        _op(_AND, _SOCK_TYPE_MASK),
        _op(_EQUAL, _SOCK_STREAM, 0, 1),
        *_allow_else_refuse(),
    )
    tcp = (
        _jump(_EQUAL, _AF_INET, 0, 7, load=_argument(0)),
        _op(_LOAD, _argument(1)),
        _op(_AND, _SOCK_TYPE_MASK),
        _op(_EQUAL, _SOCK_STREAM, 0, 4),
        _op(_LOAD, _argument(2)),  # a stream may be MPTCP or SCTP, too, which Landlock doesn't know
        _op(_EQUAL, 0, 1, 0),
        _op(_EQUAL, _IPPROTO_TCP, 0, 1),
        _end(_ALLOW),
    )
    route = (
        _jump(_EQUAL, _AF_NETLINK, 0, 6, load=_argument(0)),
        _op(_LOAD, _argument(1)),
        _op(_AND, _SOCK_TYPE_MASK),
        _op(_EQUAL, _SOCK_RAW, 0, 3),
        _op(_LOAD, _argument(2)),
        _op(_EQUAL, _NETLINK_ROUTE, 0, 1),
        _end(_ALLOW),
    )
    sockets = (*(tcp if loopback else ()), *(route if interfaces else ()), *unix_stream)
    code += [_when(_SOCKET, *sockets), _when(_SOCKETPAIR, *unix_stream)]
    code += [_refuse(_OPENAT2, _ENOSYS)]  # its mode lies in memory; programs then use openat
    for number, mode in (*_MAKE_FILE.values(), *(() if shared else _SET_MODE.values())):
        code += [_when(number, *_no_set_id(mode))]
    for number, flags in _OPEN_FILE.values():
        to_end = _jump(_ANY_BIT, _CREATE, 0, 3, load=_argument(flags))
        code += [_when(number, to_end, *_no_set_id(flags + 1))]
    code += [_refuse_values(_IOCTL, 1, (_TIOCSTI, _TIOCLINUX))]
    if shared:
        code += [_refuse(number) for number in _WHERE_SHARED.values()]
        code += [_only_zero(number) for number in _OWN_PROCESS_ONLY.values()]
        code += [_when(_CONNECT, _end(_NOTIFY if connect else _ERRNO | _EPERM))]
    return b"".join([*code, _end(_ALLOW)])


def _op(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def _argument(index: int) -> int:
    """Offset of the low word of an argument in `struct seccomp_data`."""
    return 16 + 8 * index


def _end(action: int) -> bytes:
    return _op(_RETURN, action)


def _jump(code: int, value: int, when_true: int, when_false: int, *, load: int) -> bytes:
    return _op(_LOAD, load) + _op(code, value, when_true, when_false)


def _allow_else_refuse() -> tuple[bytes, bytes]:
    return _end(_ALLOW), _end(_ERRNO | _EPERM)


def _when(number: int, *body: bytes) -> bytes:
    """A block for one system call; every path through the body returns, so the number needs no reloading after it."""
    block = b"".join(body)
    return _op(_EQUAL, number, 0, len(block) // 8) + block


def _refuse(number: int, error: int = _EPERM) -> bytes:
    return _when(number, _end(_ERRNO | error))


def _only_zero(number: int) -> bytes:
    return _when(number, _jump(_EQUAL, 0, 0, 1, load=_argument(0)), *_allow_else_refuse())


def _no_set_id(mode: int) -> tuple[bytes, ...]:
    """A file that runs as its owner is made for someone outside, where the owner may be Pawl's own user."""
    return (_jump(_ANY_BIT, _SET_ID, 0, 1, load=_argument(mode)), _end(_ERRNO | _EPERM), _end(_ALLOW))


def _refuse_values(number: int, argument: int, values: Iterable[int]) -> bytes:
    tests = b"".join(_op(_EQUAL, value, 0, 1) + _end(_ERRNO | _EPERM) for value in values)
    return _when(number, _op(_LOAD, _argument(argument)), tests, _end(_ALLOW))
