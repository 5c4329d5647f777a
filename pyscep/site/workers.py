"""``pyscep serve --workers N``: several processes on one port and one store.

A parent that opens nothing holds the sockets and starts the workers again that end. Each worker
has a socket of its own on the same port, and the kernel spreads connections among them. The
sockets stay open in the parent: what has connected to a worker that died is answered by the
one that takes its place.

Processes and not threads: Python runs one thread at a time outside of RSA and the disk, and an
enrollment is half Python.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pyscep.adapters import http_server

STOP_SECONDS: Final = http_server.GRACEFUL_SECONDS + 10.0
"""How long workers may take to end before they are killed."""
AGAIN_SECONDS: Final = 1.0
"""How long after its start a worker is replaced at the earliest: one that can't start must not
keep a processor busy."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_LIFELESS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker is given."""

    number: int
    """From 0 on; a replacement has the number of the one that it replaces."""
    first: bool
    """Whether it is the first one to start: it alone announces more than that it is ready."""
    sock: socket.socket
    """Listens."""
    parent: int
    """A pipe that ends when the parent wants the worker to end, or is gone itself."""
    announce: Callable[[dict[str, Any]], None]
    """Tells the parent that requests are being answered, with what it is to show."""


Work = Callable[[Worker], None]


@dataclass(slots=True, kw_only=True)
class _Slot:
    sock: socket.socket
    pid: int = 0
    started: float = 0.0
    ready: bool = False


class Supervisor:
    """The parent of the workers. It must have no threads and nothing open but the sockets.

    Args:
        sockets: one for each worker, of ``http_server.bind_shared``.
        work: runs in each worker until that is to end.
        on_ready: called in the parent, with what the first worker announced, once when all
            are ready.
        on_replaced: called in the parent with number, process and status of a worker that
            has ended by itself.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        work: Work,
        *,
        on_ready: Callable[[dict[str, Any]], None],
        on_replaced: Callable[[int, int, int], None],
    ) -> None:
        self._slots = [_Slot(sock=sock) for sock in sockets]
        self._work = work
        self._on_ready = on_ready
        self._on_replaced = on_replaced
        self._signals = 0
        self._announced: dict[str, Any] = {}
        self._heard = b""

    def run(self) -> int:
        """Run until a signal comes, or a worker can't start.

        Returns:
            The exit code: 0, or that of the worker that could not start.
        """
        self._life = os.pipe()
        self._news = os.pipe()
        self._bell = os.pipe()
        for descriptor in (self._news[0], *self._bell):
            os.set_blocking(descriptor, False)
        with self._watching():
            gc.freeze()  # what workers share with the parent, no collection of theirs touches
            code = self._start_all()
            if code is None:
                self._on_ready(self._announced)
                self._keep()
            self._stop()
        return code or 0

    def _start_all(self) -> int | None:
        """Start the first worker, which makes what is missing, then the others."""
        for number, slot in enumerate(self._slots):
            self._fork(number, first=number == 0)
            while not slot.ready:
                self._wait()
                if self._signals:
                    return 0
                if (status := self._ended(slot)) is not None:
                    return os.waitstatus_to_exitcode(status) or 1
        return None

    def _keep(self) -> None:
        """Replace what ends, until a signal comes."""
        while not self._is_told():
            self._wait()
            for number, slot in enumerate(self._slots):
                pid = slot.pid
                if pid and (status := self._ended(slot)) is not None:
                    if self._is_told():
                        return
                    self._on_replaced(number, pid, status)
                if not slot.pid and time.monotonic() - slot.started >= AGAIN_SECONDS:
                    self._fork(number, first=False)

    def _is_told(self) -> bool:
        """Whether a signal to end has come."""
        return self._signals > 0

    def _stop(self) -> None:
        """Let the workers end gently; after a second signal, or too long, at once."""
        os.close(self._life[1])
        deadline, before = time.monotonic() + STOP_SECONDS, self._signals
        while any(slot.pid for slot in self._slots):
            if self._signals > before or time.monotonic() > deadline:
                for slot in self._slots:
                    if slot.pid:
                        os.kill(slot.pid, signal.SIGKILL)
            self._wait()
            for slot in self._slots:
                self._ended(slot)
        for descriptor in (self._life[0], *self._news, *self._bell):
            os.close(descriptor)

    def _fork(self, number: int, *, first: bool) -> None:
        slot = self._slots[number]
        slot.ready, slot.started = False, time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            slot.pid = os.fork()
            if not slot.pid:
                self._become(number, first)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _become(self, number: int, first: bool) -> NoReturn:
        """The rest of a worker's life."""
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for descriptor in (self._life[1], self._news[0], *self._bell):
            os.close(descriptor)
        for other, slot in enumerate(self._slots):
            if other != number:
                slot.sock.close()

        def announce(what: dict[str, Any]) -> None:
            text = json.dumps({"worker": number, "ready": what})
            with open(self._news[1], "wb") as pipe:
                pipe.write(text.encode() + b"\n")

        self._work(
            Worker(
                number=number,
                first=first,
                sock=self._slots[number].sock,
                parent=self._life[0],
                announce=announce,
            )
        )
        raise SystemExit(0)

    def _wait(self) -> None:
        """Until something has happened: news of a worker, or a signal."""
        select.select([self._news[0], self._bell[0]], [], [], _LIFELESS)
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell[0], 4096)
        with contextlib.suppress(BlockingIOError):
            self._heard += os.read(self._news[0], 65536)
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            news = json.loads(line)
            self._slots[news["worker"]].ready = True
            self._announced = self._announced or news["ready"]

    @staticmethod
    def _ended(slot: _Slot) -> int | None:
        """The status of a worker that has ended."""
        if not slot.pid:
            return None
        pid, status = os.waitpid(slot.pid, os.WNOHANG)
        if not pid:
            return None
        slot.pid = 0
        return status

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Signals are counted, and wake whoever waits."""
        before = {}

        def on_signal(number: int, _: object) -> None:
            if number != signal.SIGCHLD:
                self._signals += 1
            with contextlib.suppress(BlockingIOError):  # full: nobody has to be woken
                os.write(self._bell[1], b"!")

        for number in _SIGNALS:
            before[number] = signal.signal(number, on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
