"""Signal the host's processes: by every call that sends one, and by making the kernel send it."""

import ctypes
import fcntl
import os
import signal
import socket
import time


def prepare(arena):
    return {"pid": arena.victim().pid, "mine": os.getpid(), "group": os.getpgid(arena.victim_process.pid)}


def attack(given, attempt):
    pid = given["pid"]

    class Info(ctypes.Structure):
        _fields_ = [
            ("signal", ctypes.c_int),
            ("error", ctypes.c_int),
            ("code", ctypes.c_int),
            ("rest", ctypes.c_char * 116),
        ]

    def owned(how):
        """Asynchronous input, whose signal the kernel sends to the owner of the file."""
        one, other = socket.socketpair()
        how(one)
        fcntl.fcntl(one, 10, signal.SIGUSR2)  # F_SETSIG
        fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        other.sendall(b"x")
        time.sleep(0.02)
        one.close()

    attempt("kill", lambda: os.kill(pid, signal.SIGUSR1))
    attempt("group", lambda: os.killpg(pid, signal.SIGUSR1))
    attempt("tkill", lambda: attempt.syscall(200, pid, signal.SIGUSR1))
    attempt("tgkill", lambda: attempt.syscall(234, pid, pid, signal.SIGUSR1))
    attempt("queue", lambda: attempt.syscall(129, pid, signal.SIGUSR1, ctypes.byref(Info(signal.SIGUSR1, 0, -1))))
    attempt(
        "queue thread",
        lambda: attempt.syscall(297, pid, pid, signal.SIGUSR1, ctypes.byref(Info(signal.SIGUSR1, 0, -1))),
    )
    attempt("descriptor", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGUSR1))
    attempt("owner", lambda: owned(lambda s: fcntl.fcntl(s, fcntl.F_SETOWN, pid)))
    attempt("owner, extended", lambda: owned(lambda s: fcntl.fcntl(s, 15, (ctypes.c_int * 2)(1, pid))))
    attempt("lease", lambda: lease(pid))
    attempt("notify", lambda: notify(pid))
    if given["guarded"]:  # to all of them: outside it would reach whoever else works on this machine
        attempt("all", lambda: os.kill(-1, signal.SIGURG))
        attempt("own group", lambda: os.kill(0, signal.SIGURG))
        for other in {1, os.getppid() or 1, given["mine"]}:
            attempt(f"stop {other}", lambda other=other: os.kill(other, signal.SIGSTOP))


def lease(pid):
    """Whoever opens a leased file makes the kernel tell the lease's owner."""
    file = os.open("leased", os.O_CREAT | os.O_RDWR)
    os.close(file)
    file = os.open("leased", os.O_RDONLY)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    fcntl.fcntl(file, 10, signal.SIGUSR2)
    fcntl.fcntl(file, fcntl.F_SETOWN, pid)
    if os.fork() == 0:
        try:
            os.open("leased", os.O_RDWR | os.O_NONBLOCK)
        finally:
            os._exit(0)
    os.wait()


def notify(pid):
    folder = os.open(".", os.O_RDONLY)
    fcntl.fcntl(folder, 10, signal.SIGUSR2)
    fcntl.fcntl(folder, fcntl.F_SETOWN, pid)
    fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_CREATE)
    open("noticed", "w").close()


def verdict(arena, result):
    return arena.victim_process.touched()
