"""Open the kernel's settings for writing: core_pattern first, by which a crash runs a program as the host's root."""

import os


def attack(given, attempt):
    paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sysrq-trigger",
    ]
    paths += [
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/fs/binfmt_misc/register",
    ]
    paths += ["/proc/sys/kernel/ns_last_pid", "/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity"]
    paths += [
        "/proc/sys/user/max_user_namespaces",
        "/proc/sys/kernel/yama/ptrace_scope",
        "/proc/mtrr",
        "/proc/acpi/wakeup",
    ]
    for path in paths:
        for root in ("", "/proc/self/root", f"/proc/{os.getppid()}/root", "/proc/1/root"):
            # Opening is all: what is held open is seen from outside, and nothing is changed where it works.
            attempt(root + path, lambda path=root + path: os.open(path, os.O_WRONLY))
    if given["guarded"]:  # outside a mount would be the host's
        os.makedirs("proc", exist_ok=True)
        attempt("a fresh proc", mount, attempt, b"proc", b"proc", b"proc", 0, None)
        attempt("through it", os.open, "proc/sys/kernel/core_pattern", os.O_WRONLY)
        attempt("remount", mount, attempt, None, b"/proc/sys", None, 0x1020, None)
    attempt("sysctl", lambda: attempt.syscall(156, 0))
    attempt.hold()


def mount(attempt, *arguments):
    if attempt.libc.mount(*arguments):
        raise OSError("refused")


def meanwhile(arena):
    from ..watching import held

    settings = ("/proc/sys", "/proc/irq", "/proc/mtrr", "/proc/acpi")
    open_ones = {each.target for each in held(arena.tagged()) if each.writable and each.target.startswith(settings)}
    return [f"{path} is open for writing" for path in sorted(open_ones)]


def verdict(arena, result):
    return []
