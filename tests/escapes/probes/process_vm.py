"""Read and write the memory of another process by process_vm_readv, process_vm_writev and process_madvise."""

import ctypes


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def prepare(arena):
    victim = arena.victim()
    return {"pid": victim.pid, "secret": victim.secret_at, "flag": victim.flag_at}


def attack(given, attempt):
    buffer = ctypes.create_string_buffer(64)

    def copy(number, data, address):
        ours = Part(ctypes.cast(data, ctypes.c_void_p), len(data))
        theirs = Part(address, len(data))
        attempt.syscall(number, given["pid"], ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        return bytes(data)

    attempt("read", lambda: copy(310, buffer, given["secret"]))
    attempt("write", lambda: copy(311, ctypes.create_string_buffer(b"written"), given["flag"]))


def verdict(arena, result):
    return arena.leaked(result) + arena.victim_process.touched()
