"""The loopback forwarder: a port of the sandbox's own network namespace that leads to one Unix socket.

It runs beside the program, started by the launcher before it, and outside its confinement; it copies bytes and reads
none. A program that ends it, or floods it, has cut off itself alone. Standard library only, since the launcher runs
without packages.
"""

import _socket
import os
import select
import socket
from collections.abc import Callable

_CONNECTIONS = 64
_CHUNK = 1 << 16


def start(port: int, path: str, hide: Callable[[], object]) -> None:
    """Listen on 127.0.0.1, and forward in a process of its own.

    Args:
        port: to listen on; it answers when this returns.
        path: of the Unix socket.
        hide: called in the new process, keeps its descriptors from the program.

    Raises:
        OSError: there is no such network here, or the port is taken.
    """
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", port))
    listener.listen(_CONNECTIONS)
    if os.fork() == 0:
        try:
            hide()
            _keep_only(listener.fileno())
            _serve(socket.socket(fileno=listener.detach()), path)
        finally:
            os._exit(1)
    listener.close()


def _keep_only(descriptor: int) -> None:
    """Let go of the program's standard streams and the launcher's descriptors."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, 1 << 20)


class _Direction:
    """Bytes on their way from one socket to another."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.waiting = bytearray()
        self.ended = False

    def take(self) -> None:
        try:
            chunk = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        self.waiting += chunk
        self.ended = not chunk
        self.give()

    def give(self) -> None:
        try:
            while self.waiting:
                del self.waiting[: self.sink.send(self.waiting)]
        except BlockingIOError:
            return
        if self.ended:
            self.sink.shutdown(socket.SHUT_WR)


class _Connection:
    """A program's connection and the one to the Unix socket that it leads to."""

    def __init__(self, inside: socket.socket, path: str) -> None:
        self.ends = (inside, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self.ends[1].connect(path)
        inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer in two parts takes 40 ms more
        for end in self.ends:
            end.setblocking(False)
        self.directions = (_Direction(*self.ends), _Direction(*reversed(self.ends)))

    def interest(self, end: socket.socket) -> int:
        """What to wait for on one end; nothing more is read while its bytes can't be passed on."""
        events = 0
        for each in self.directions:
            if each.source is end and not each.ended and not each.waiting:
                events |= select.EPOLLIN
            if each.sink is end and each.waiting:
                events |= select.EPOLLOUT
        return events

    def move(self, end: socket.socket, event: int) -> bool:
        """Pass on what can be; false once both directions have ended, or one has broken."""
        try:
            for each in self.directions:
                readable = event & (select.EPOLLIN | select.EPOLLHUP) and not each.ended and not each.waiting
                if each.source is end and readable:
                    each.take()
                if each.sink is end and event & select.EPOLLOUT:
                    each.give()
        except OSError:
            return False
        broken = bool(event & select.EPOLLERR)
        return not broken and not all(each.ended and not each.waiting for each in self.directions)


def _serve(listener: socket.socket, path: str) -> None:
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, tuple[_Connection, socket.socket]] = {}
    watched: set[int] = set()
    while True:
        for descriptor, event in poll.poll():
            if descriptor == listener.fileno():
                connection = _accept(listener, path)
                if connection is None:
                    continue
                connections.update({end.fileno(): (connection, end) for end in connection.ends})
            elif descriptor in connections:
                connection, end = connections[descriptor]
                if not connection.move(end, event):
                    for each in connection.ends:
                        watched.discard(each.fileno())
                        del connections[each.fileno()]
                        each.close()
                    connection = None
            else:
                continue  # its other end's event, just before, has closed it
            if connection is not None:
                for each in connection.ends:
                    _watch(poll, watched, each, connection.interest(each))
            poll.modify(listener, select.EPOLLIN if len(connections) < 2 * _CONNECTIONS else 0)


def _accept(listener: socket.socket, path: str) -> _Connection | None:
    try:
        inside, _ = listener.accept()
    except OSError:
        return None
    try:
        return _Connection(inside, path)
    except OSError:
        inside.close()  # nobody listens there any more
        return None


def _watch(poll: select.epoll, watched: set[int], end: socket.socket, events: int) -> None:
    """Wait for events on one end; an end that is waited on for nothing would still report its closing, for ever."""
    if not events:
        if end.fileno() in watched:
            poll.unregister(end)
            watched.discard(end.fileno())
    elif end.fileno() in watched:
        poll.modify(end, events)
    else:
        poll.register(end, events)
        watched.add(end.fileno())
