"""Promises of the loopback forwarder: every byte both ways, whoever hangs up first, and no CPU time while it waits."""

import asyncio
import hashlib
import json
import os
import sys

import pytest

from pawl.core import ConfigurationError
from pawl.safety import Command, Ending, Isolation, Limits, Mount, default_sandbox
from pawl.safety.sandbox import Loopback, Use
from pawl.safety.sandbox.local import why_not

pytestmark = pytest.mark.skipif(bool(why_not(Isolation.BUBBLEWRAP)), reason=why_not(Isolation.BUBBLEWRAP))

LIMITS = Limits(wall_seconds=20, cpu_seconds=10)


async def run(tmp_path, handle, program, port=8000, mounted=True):
    path = tmp_path / "s"
    work = tmp_path / "work"
    work.mkdir()
    server = await asyncio.start_unix_server(handle, str(path))
    path.chmod(0o666)
    async with server:
        result = await default_sandbox(Isolation.BUBBLEWRAP).run(
            Command(
                argv=(os.path.realpath(sys.executable), "-S", "-c", program),
                work=work,
                mounts=(Mount(path=path),) if mounted else (),
                loopback=Loopback(socket=path, port=port),
                limits=LIMITS,
                use=Use.SCAFFOLD,
            )
        )
    assert result.ending is Ending.EXITED
    assert result.status == 0, result.stderr.decode()
    return json.loads(result.stdout)


async def test_many_connections_carry_megabytes_both_ways(tmp_path):
    async def echo(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    program = """
import hashlib, json, random, socket, threading
said = {}
def talk(number):
    data = random.Random(number).randbytes(3 << 20)
    stream = socket.create_connection(("127.0.0.1", 8123))
    def send():
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
    threading.Thread(target=send).start()
    got = hashlib.sha256()
    while chunk := stream.recv(1 << 16):
        got.update(chunk)
    said[number] = got.hexdigest() == hashlib.sha256(data).hexdigest()
threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(said))
"""
    assert set((await run(tmp_path, echo, program, port=8123)).values()) == {True}


async def test_what_was_sent_before_hanging_up_arrives_and_waiting_costs_nothing(tmp_path):
    data = os.urandom(1 << 20)

    async def speak_and_leave(reader, writer):
        writer.write(data)
        writer.close()

    program = """
import hashlib, json, os, socket, time
def used():
    ticks = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            ticks += sum(map(int, open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
late = socket.create_connection(("127.0.0.1", 8000))
gone = [socket.create_connection(("127.0.0.1", 8000)) for _ in range(3)]
gone[0].shutdown(socket.SHUT_WR)
time.sleep(0.3)
before = used()
time.sleep(1)
idle = used() - before
got = hashlib.sha256()
while chunk := late.recv(1 << 16):
    got.update(chunk)
print(json.dumps([got.hexdigest(), idle]))
"""
    digest, idle = await run(tmp_path, speak_and_leave, program)
    assert digest == hashlib.sha256(data).hexdigest()
    assert idle < 0.3


async def test_a_socket_that_is_not_mounted_gets_no_port(tmp_path):
    with pytest.raises(ConfigurationError, match="among the mounts"):
        await run(tmp_path, lambda reader, writer: None, "", mounted=False)
