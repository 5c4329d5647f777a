"""A load generator: requests that were built before, over connections that are kept.

One thread and raw sockets: what it costs (``Load.own_seconds``) stays under a tenth of what a
server needs for an enrollment. A reply is kept as it came, and looked at after the clock has
stopped.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_END = b"\r\n\r\n"
_READ = 1 << 16
PATIENCE = 60.0
"""Seconds without any reply until a server counts as hung."""


@dataclass(slots=True, kw_only=True)
class Load:
    """What one run of the generator saw."""

    seconds: float = 0.0
    """From the first request to the last reply, by the clock."""
    own_seconds: float = 0.0
    """CPU time of the generator."""
    latencies: list[float] = field(default_factory=list)
    """Seconds from the first byte sent to the last one received, in the order of the replies."""
    responses: list[bytes] = field(default_factory=list)
    """Whole HTTP responses, in the order of the requests."""


class _Connection:
    """One socket with at most one request in flight."""

    __slots__ = ("buffer", "number", "sent", "sock", "started", "to_send")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = b""
        self.number = -1
        self.started = 0.0
        self.to_send = b""

    def send(self) -> bool:
        """Send what the socket takes; whether all of it is on its way."""
        try:
            done = self.sock.send(self.to_send)
        except BlockingIOError:
            return False
        self.to_send = self.to_send[done:]
        return not self.to_send


def drive(port: int, requests: Sequence[bytes], connections: int) -> Load:
    """Send all requests, each as soon as a connection is free for it.

    Raises:
        RuntimeError: the server closes a connection, or says nothing for long.
    """
    load = Load(responses=[b""] * len(requests))
    poll = select.epoll()
    lines = [_Connection(port) for _ in range(min(connections, len(requests)))]
    by_descriptor = {line.sock.fileno(): line for line in lines}
    clock = time.perf_counter
    waiting = iter(range(len(requests)))
    try:
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        own, start = time.thread_time(), clock()
        for line in lines:
            _next(poll, line, next(waiting), requests, clock())
        left = len(requests)
        while left:
            ready = poll.poll(PATIENCE)
            if not ready:
                raise RuntimeError("the server has hung")
            for descriptor, event in ready:
                line = by_descriptor[descriptor]
                if event & select.EPOLLOUT and line.to_send:
                    if line.send():
                        poll.modify(descriptor, select.EPOLLIN)
                    continue
                data = line.sock.recv(_READ)
                if not data:
                    raise RuntimeError(f"the server hung up: {line.buffer[:200]!r}")
                line.buffer = line.buffer + data if line.buffer else data
                if not is_complete(line.buffer):
                    continue
                now = clock()
                load.latencies.append(now - line.started)
                load.responses[line.number] = line.buffer
                left -= 1
                number = next(waiting, None)
                if number is not None:
                    _next(poll, line, number, requests, now)
        load.seconds = clock() - start
        load.own_seconds = time.thread_time() - own
    finally:
        poll.close()
        for line in lines:
            line.sock.close()
    return load


def _next(
    poll: select.epoll, line: _Connection, number: int, requests: Sequence[bytes], now: float
) -> None:
    line.number, line.started = number, now
    line.buffer, line.to_send = b"", requests[number]
    if not line.send():
        poll.modify(line.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)


def is_complete(response: bytes) -> bool:
    """Whether a response has come to its end; its length is declared or it comes in chunks."""
    end = response.find(_END)
    if end < 0:
        return False
    head = response[:end].lower()
    mark = head.find(b"\r\ncontent-length:")
    if mark >= 0:
        length = int(head[mark + 17 :].partition(b"\r\n")[0])
        return len(response) >= end + 4 + length
    return response.endswith(b"0\r\n\r\n") and _unchunked(response[end + 4 :]) is not None


def body_of(response: bytes) -> bytes:
    """The body of a complete response.

    Raises:
        RuntimeError: its status is not 200.
    """
    head, _, body = response.partition(_END)
    if head.split(b" ", 2)[1] != b"200":
        raise RuntimeError(f"{head.partition(_END[:2])[0]!r}: {body[:200]!r}")
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        return body
    whole = _unchunked(body)
    assert whole is not None
    return whole


def _unchunked(body: bytes) -> bytes | None:
    """The body without the marks of its chunks; None while there is more to come."""
    parts = []
    while True:
        line, found, body = body.partition(b"\r\n")
        if not found:
            return None
        size = int(line.partition(b";")[0], 16)
        if len(body) < size + 2:
            return None
        if not size:
            return b"".join(parts)
        parts.append(body[:size])
        body = body[size + 2 :]
