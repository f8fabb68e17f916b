"""Open what /sys and the debugging file systems offer for writing."""

import os


def attack(given, attempt):
    paths = [
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/kernel/profiling",
    ]
    paths += [
        "/sys/kernel/debug/sched_features",
        "/sys/kernel/tracing/trace_marker",
        "/sys/module/kernel/parameters/panic",
    ]
    paths += [
        "/sys/devices/system/cpu/cpu1/online",
        "/sys/block/vda/queue/scheduler",
        "/sys/firmware/efi/vars",
        "/sys/fs/bpf/x",
    ]
    paths += [
        "/sys/kernel/security/landlock",
        "/sys/kernel/security/apparmor/.replace",
        "/sys/fs/fuse/connections/1/abort",
    ]
    for path in paths:
        attempt(path, lambda path=path: os.open(path, os.O_WRONLY))
    count = 0
    for root, _, names in os.walk("/sys"):
        for name in names:
            try:
                os.open(os.path.join(root, name), os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
        count += 1
        if count > 150:
            break
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    open_ones = {each.target for each in held(arena.tagged()) if each.writable and each.target.startswith("/sys")}
    return [f"{path} is open for writing" for path in sorted(open_ones)]


def verdict(arena, result):
    return []
