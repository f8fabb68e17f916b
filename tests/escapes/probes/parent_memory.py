"""Read and write the memory of other processes through /proc/PID/mem; the launcher's first of all."""

import os


def prepare(arena):
    victim = arena.victim()
    return {"pid": victim.pid, "secret": victim.secret_at, "flag": victim.flag_at}


def attack(given, attempt):
    for root in ("/proc", "/proc/self/root/proc", f"/proc/{os.getppid()}/root/proc", "/proc/1/root/proc"):
        path = f"{root}/{given['pid']}/mem"
        attempt(f"read {path}", lambda path=path: peek(path, given["secret"]))
        attempt(f"write {path}", lambda path=path: poke(path, given["flag"]))
        attempt(
            f"task {path}", lambda path=path: peek(path.replace("/mem", f"/task/{given['pid']}/mem"), given["secret"])
        )
    attempt("own", lambda: peek("/proc/self/mem", given["secret"]))
    # With the launcher's memory a program could write its own end, and hold the launcher's descriptors.
    for pid in {1, os.getppid()}:
        attempt(f"maps of {pid}", attempt.read, f"/proc/{pid}/maps")
        attempt(f"open {pid}", lambda pid=pid: os.open(f"/proc/{pid}/mem", os.O_RDWR))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    pids = arena.tagged()
    strangers = [each for each in held(pids) if each.target.endswith("/mem")]
    return [
        f"the memory of another process is open ({each.target})" for each in strangers if not mine(each.target, pids)
    ]


def mine(target, pids):
    return target in {f"/proc/{pid}/mem" for pid in pids} or target == "/proc/self/mem"


def verdict(arena, result):
    return arena.leaked(result) + arena.victim_process.touched()


def peek(path, address):
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), 64, address)


def poke(path, address):
    with open(path, "r+b", buffering=0) as file:
        return os.pwrite(file.fileno(), b"written\0", address)
