"""The servers that are measured: processes of their own, on the cores they are given."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

import pyscep

PASSWORD = "bench"
START_SECONDS = 30.0
STOP_SECONDS = 30.0
SLOW_DISK = r"""
/* fsync and fdatasync, 5 ms slower: a disk without a cache that survives a power cut. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static void wait_5_ms(void)
{
    struct timespec left = {0, 5000000};
    while (nanosleep(&left, &left) != 0) { }
}

int fdatasync(int descriptor)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_5_ms();
    return next(descriptor);
}

int fsync(int descriptor)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_5_ms();
    return next(descriptor);
}
"""


class Running:
    """A server that answers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def pids(self) -> list[int]:
        """Its processes: it, and its workers."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            waiting += map(int, children.split())
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, of all its threads and processes."""
        # Linux: the CPU clock of another process, as clock_getcpuclockid makes it.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def rss_mib(self) -> float:
        """Resident memory; pages that processes share count for each."""
        total = 0
        for pid in self.pids():
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            total += int(status.partition("VmRSS:")[2].split()[0])
        return total / 1024

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


Start = Callable[[], Running]


@contextmanager
def running(*starts: Start) -> Iterator[list[Running]]:
    """Start servers, and stop them."""
    servers: list[Running] = []
    try:
        for start in starts:
            servers.append(start())
        yield servers
    finally:
        for server in servers:
            server.stop()


class Place:
    """A CA of scepserver's, and fresh copies of it for each server that is measured."""

    def __init__(self, folder: Path, challenge: str) -> None:
        self._folder = folder
        self._depot = folder / "depot"
        self._challenge = challenge
        self._word = folder / "challenge"
        self._word.write_text(challenge, encoding="ascii")
        subprocess.run(
            ["scepserver", "ca", "-init", "-depot", self._depot, "-keySize", "2048",
             "-key-password", PASSWORD],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        certificate = x509.load_pem_x509_certificate((self._depot / "ca.pem").read_bytes())
        key = load_pem_private_key((self._depot / "ca.key").read_bytes(), PASSWORD.encode())
        self.identity = pyscep.Identity(certificate, key)

    def micromdm(self, cores: Sequence[int]) -> Running:
        """Debian's scepserver on a fresh depot."""
        depot = self._fresh() / "depot"
        shutil.copytree(self._depot, depot)
        port = free_port()
        process = subprocess.Popen(
            [*_on(cores), "scepserver", "-depot", depot, "-port", str(port), "-challenge",
             self._challenge, "-capass", PASSWORD, "-allowrenew", "0"],
            env={**os.environ, "GOMAXPROCS": str(len(cores))},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(port, process)
        return Running(process, port)

    def pyscep(self, cores: Sequence[int], *options: str, preload: Path | None = None) -> Running:
        """``pyscep serve`` with the same CA key, on a fresh SQLite store."""
        directory = self.ca_directory()
        environment = dict(os.environ)
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        log = (directory / "log").open("wb")
        process = subprocess.Popen(
            [*_on(cores), sys.executable, "-m", "pyscep", "serve", "--directory", directory,
             "--port", "0", "--json", "--static-challenge-file", self._word, *options],
            env=environment, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        with log:
            return Running(process, _announced_port(process, directory / "log"))

    def stateless(self, cores: Sequence[int]) -> Running:
        """The same HTTP server with an authority that signs and keeps nothing."""
        directory = self.ca_directory()
        log = (directory / "log").open("wb")
        process = subprocess.Popen(
            [*_on(cores), sys.executable, "-m", "benchmarks.served_stateless", directory,
             self._word],
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        with log:
            return Running(process, _announced_port(process, directory / "log"))

    def ca_directory(self) -> Path:
        """A directory of ``pyscep serve`` with the CA's key and certificate, and no store."""
        directory = self._fresh()
        shutil.copy(self._depot / "ca.pem", directory / "ca.pem")
        key = directory / "ca.key"
        key.touch(0o600)
        key.write_bytes(
            self.identity.private_key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        return directory

    def slow_disk(self) -> Path | None:
        """The library that makes each fdatasync 5 ms slower; None without a C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            return None
        source, library = self._folder / "slow_disk.c", self._folder / "slow_disk.so"
        source.write_text(SLOW_DISK, encoding="ascii")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True
        )
        return library

    def _fresh(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))


def _on(cores: Sequence[int]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores))]


def _announced_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """From the line that says it is ready."""
    stdout: IO[bytes] | None = process.stdout
    assert stdout is not None
    line = stdout.readline()
    if not line:
        process.wait(STOP_SECONDS)
        raise RuntimeError(f"the server did not start: {log.read_text(encoding='utf-8')[-2000:]}")
    return int(json.loads(line)["url"].partition("://")[2].partition(":")[2].partition("/")[0])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something listens there.

    Raises:
        RuntimeError: the process ended instead, or took too long.
    """
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
