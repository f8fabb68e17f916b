"""Hand descriptors to the trusted side over the policy socket (SCM_RIGHTS), or ask it for some of its own."""

import os
import socket
import tempfile
from pathlib import Path

OUTSIDE_LOOKS = True


async def prepare(arena):
    from pawl.safety.sandbox import Mount

    if arena.guarded:
        path = await policy_socket(arena)
    else:
        folder = Path(tempfile.mkdtemp(prefix="ps-"))
        path = folder / "s"
        arena.stack.callback(folder.rmdir)
        arena.stack.callback(path.unlink)
        careless(arena, path)
    arena.mounts.append(Mount(path=path))
    arena.memory["before"] = len(os.listdir("/proc/self/fd"))
    arena.plant("by-descriptor")
    return {"socket": str(path), "secret": str(arena.host / "by-descriptor")}


async def policy_socket(arena):
    """The real proxy, with a rollout's session."""
    from pawl.core import Sampling, Version
    from pawl.serving.policy import Endpoint
    from pawl.serving.proxy import PolicyProxy

    proxy = PolicyProxy(Endpoint(base_url="http://127.0.0.1:9/v1", base_model="base"))
    await arena.stack.enter_async_context(proxy)
    version = Version(scaffold="0" * 64, base_model="base", sampling=Sampling())
    return (await proxy.open(version, seed=1)).socket


def careless(arena, path):
    """A server that takes what it is sent, and sends what it has."""
    import threading

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(4)
    kept = arena.memory["kept"] = []

    def serve():
        try:
            while True:
                connection, _ = listener.accept()
                data, handed, _, _ = socket.recv_fds(connection, 4096, 100)
                kept.extend(handed)
                if data.startswith(b"GET /file"):
                    with open(arena.host / "by-descriptor") as file:
                        socket.send_fds(connection, [b"."], [file.fileno()])
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    arena.stack.callback(listener.close)
    arena.stack.callback(listener.shutdown, socket.SHUT_RDWR)
    arena.stack.callback(lambda: [os.close(each) for each in kept])


def attack(given, attempt):
    kept = []

    def hand(count, data):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(0.5)
        s.connect(given["socket"])
        kept.append(s)
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
        socket.send_fds(s, [data], files)
        for file in files:
            os.close(file)
        return s

    def take(data):
        _, handed, _, _ = socket.recv_fds(hand(1, data), 4096, 16)
        return b"".join(os.pread(each, 4096, 0) for each in handed) or 1 / 0

    body = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    for data in (b"x", body, b"\r\n", b"GET / HTTP/1.1\r\n"):
        attempt(f"hand {data[:9]!r}", hand, 50, data)
    attempt("file", take, b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
    attempt("secret", take, f"GET {given['secret']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    attempt.hold()


def meanwhile(arena):
    import time

    time.sleep(0.1)
    more = len(os.listdir("/proc/self/fd")) - arena.memory["before"]
    return [f"the trusted side holds {more} more descriptors"] if more > 40 else []
