"""Leave or use a control group: the release agent that the host's root runs, a group of its own, the run's limits."""

import glob
import os


def prepare(arena):
    return {"name": f"escape-{arena.tag}"}


def attack(given, attempt):
    roots = ["/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*/"), *glob.glob("/sys/fs/cgroup/*/*/")]
    if given["guarded"]:  # outside a mount would be the host's
        os.makedirs("group", exist_ok=True)
        attempt("mount", mount, attempt, b"cgroup", b"group", b"cgroup", 0, b"memory")
        attempt("mount 2", mount, attempt, b"cgroup2", b"group", b"cgroup2", 0, None)
        roots.append("group")
    for line in attempt.read("/proc/self/cgroup").decode().splitlines():
        roots += [f"/sys/fs/cgroup/{line.split(':')[1]}{line.split(':')[2]}", f"/sys/fs/cgroup{line.split(':')[2]}"]
    for root in roots:
        for name in (
            "release_agent",
            "cgroup.procs",
            "tasks",
            "pids.max",
            "memory.limit_in_bytes",
            "memory.max",
            "devices.allow",
        ):
            attempt(f"{root} {name}", os.open, os.path.join(root, name), os.O_WRONLY)
        attempt(f"{root} make", os.mkdir, os.path.join(root, given["name"]))
    attempt.hold()


def mount(attempt, *arguments):
    if attempt.libc.mount(*arguments):
        raise OSError("refused")


def meanwhile(arena):
    from ..watching import held

    made = glob.glob(f"/sys/fs/cgroup/**/escape-{arena.tag}", recursive=True)
    for path in made:
        os.rmdir(path)
    names = (
        "release_agent",
        "cgroup.procs",
        "tasks",
        "pids.max",
        "memory.limit_in_bytes",
        "memory.max",
        "devices.allow",
    )
    open_ones = [each for each in held(arena.tagged()) if each.writable and os.path.basename(each.target) in names]
    found = [f"{len(made)} groups were made"] if made else []
    return found + ([f"{len(open_ones)} files of control groups are open for writing"] if open_ones else [])


def verdict(arena, result):
    return []
