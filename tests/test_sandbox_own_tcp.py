"""TCP between a sandboxed program's own processes: on a loopback of its own, and nowhere else."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from pawl.core import SandboxUnavailable
from pawl.safety import Command, Ending, Isolation, Limits, default_sandbox
from pawl.safety.sandbox import Use
from pawl.safety.sandbox.local import LocalSandbox, why_not

LIMITS = Limits(wall_seconds=20, cpu_seconds=10)

PROGRAM = """
import json, os, socket, sys
said = {}
server = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    socket.create_connection(server.getsockname()).sendall(b"hello")
    os._exit(0)
stream = server.accept()[0]
said["own"] = stream.recv(5).decode()
said["interfaces"] = sorted(name for _, name in socket.if_nameindex())
for name, family, kind, protocol, target in (
    ("host", socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", int(sys.argv[1]))),
    ("outside", socket.AF_INET, socket.SOCK_STREAM, 0, ("192.0.2.1", 80)),
    ("datagram", socket.AF_INET, socket.SOCK_DGRAM, 0, ("127.0.0.1", 53)),
    ("ipv6", socket.AF_INET6, socket.SOCK_STREAM, 0, ("::1", 80)),
    ("mptcp", socket.AF_INET, socket.SOCK_STREAM, 262, ("127.0.0.1", 80)),
    ("netfilter", socket.AF_NETLINK, socket.SOCK_RAW, 12, (0, 0)),
):
    try:
        socket.socket(family, kind, protocol).connect(target)
        said[name] = "connected"
    except OSError as error:
        said[name] = error.strerror
print(json.dumps(said))
"""


def command(work: Path, port: int) -> Command:
    work.mkdir()
    argv = (os.path.realpath(sys.executable), "-S", "-c", PROGRAM, str(port))
    return Command(argv=argv, work=work, own_tcp=True, limits=LIMITS, use=Use.TRAINING)


@pytest.mark.skipif(bool(why_not(Isolation.BUBBLEWRAP)), reason=why_not(Isolation.BUBBLEWRAP))
async def test_processes_of_one_program_talk_to_each_other_and_to_nobody_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        result = await default_sandbox(Isolation.BUBBLEWRAP).run(command(tmp_path / "work", host.getsockname()[1]))
    assert (result.ending, result.status) == (Ending.EXITED, 0), result.stderr.decode()
    assert json.loads(result.stdout) == {
        "own": "hello",
        "interfaces": ["lo"],
        "host": "Connection refused",
        "outside": "Network is unreachable",
        "datagram": "Operation not permitted",
        "ipv6": "Operation not permitted",
        "mptcp": "Operation not permitted",
        "netfilter": "Operation not permitted",
    }


async def test_without_a_network_namespace_it_is_refused_and_the_words_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"host's loopback\. Install bubblewrap .* single process"):
        await LocalSandbox(Isolation.LANDLOCK).run(command(tmp_path / "work", 1))
