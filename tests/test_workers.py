"""`pyscep serve --workers`: several processes on one port and one SQLite store, for real."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import pyscep
from benchmarks import served_cases
from benchmarks.served_load import body_of, drive
from pyscep.adapters import http_server
from pyscep.ca import CertificateAuthority
from pyscep.site import limits, metrics, shared_numbers
from tests import forge_keys as keys

ROOT = Path(__file__).resolve().parent.parent
WORD = "a word for everybody"
PATIENCE = 30.0
CAPS = b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: x\r\n\r\n"
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks at processes in /proc"
)


@dataclass
class Site:
    """A running `pyscep serve --workers`."""

    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    directory: Path
    log: Path

    @property
    def port(self) -> int:
        return int(self.ready["url"].rpartition(":")[2].partition("/")[0])

    def workers(self) -> list[int]:
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(one) for one in text.split()]

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def sql(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.directory / "scep.db")) as connection:
            return connection.execute(query).fetchall()


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(path: Path, *words: object, workers: int = 2) -> Iterator[Site]:
    (path / "word").write_text(WORD)
    log = path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyscep", "serve", "--json", "--port", "0", "--workers",
             str(workers), "--directory", str(path / "ca"), "--static-challenge-file",
             str(path / "word"), *map(str, words)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Site(process, json.loads(line), path / "ca", log)
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def make_ca(path: Path) -> pyscep.Identity:
    """A CA that signs, decrypts and answers with one key, made before it is served."""
    with CertificateAuthority.create(
        path / "ca", key_type="rsa-2048", topology="ca", validity=timedelta(days=30)
    ) as ca:
        return ca.issuer.identity


def cases_for(identity: pyscep.Identity, count: int) -> list[served_cases.Case]:
    made = []
    for number in range(count):
        key = keys.rsa_key(f"device {number}")
        assert isinstance(key, rsa.RSAPrivateKey)
        made.append(served_cases.make_case(identity, key, f"CN=device-{number}", WORD))
    return made


@pytest.mark.slow
def test_two_workers_on_one_store_under_load(tmp_path: Path) -> None:
    """Every reply is good, no serial number is used twice, and both have worked."""
    identity = make_ca(tmp_path)
    cases = cases_for(identity, 24)
    with serving(tmp_path) as site:
        assert site.ready["workers"] == 2
        assert site.ready["pid"] == site.process.pid
        first, second = site.workers()
        load = drive(site.port, [case.http("GET") for case in cases], 12)
        bodies = [body_of(response) for response in load.responses]
        serials = served_cases.check_all(cases, bodies, identity)
        assert len(set(serials) - {None}) == len(cases)
        rows = site.sql("SELECT serial FROM certificates WHERE state = 'issued'")
        assert {serial for (serial,) in rows} == {f"{serial:x}" for serial in serials if serial}
        assert site.sql("SELECT count(*) FROM audit WHERE decision = 'granted'") == [(24,)]
        # The same requests again, perhaps by the other worker: the same certificates.
        again = drive(site.port, [case.http("POST") for case in cases], 12)
        bodies = [body_of(response) for response in again.responses]
        assert served_cases.check_all(cases, bodies, identity) == serials
        assert answers(site, first)
        assert answers(site, second)
    assert site.process.returncode == 0


def count_of(site: Site) -> float:
    """How many GetCACaps and the like were answered, as `/metrics` tells."""
    load = drive(site.port, [b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"], 1)
    text = body_of(load.responses[0]).decode()
    lines = [line for line in text.splitlines() if line.startswith("pyscep_http_seconds_count ")]
    assert len(lines) == 1
    return float(lines[0].rpartition(" ")[2])


@pytest.mark.slow
def test_the_numbers_are_those_of_all_workers(tmp_path: Path) -> None:
    """Whichever worker is asked, and also after one of them was replaced."""
    with serving(tmp_path) as site:
        for _ in range(8):  # the kernel chooses a worker for each
            drive(site.port, [CAPS] * 5, 1)
        until(lambda: {count_of(site) for _ in range(12)} == {40})
        victim, _ = site.workers()
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(site.workers()) == 2 and victim not in site.workers())
        drive(site.port, [CAPS] * 2, 1)
        until(lambda: {count_of(site) for _ in range(12)} == {42})


def test_a_part_that_is_being_written_is_not_read() -> None:
    numbers = shared_numbers.SharedNumbers(2)
    assert numbers.read(0) is None
    assert numbers.others(1) == []
    numbers.write(0, {"a": 1})
    numbers.write(1, {"b": 2})
    assert (numbers.others(1), numbers.others(0)) == ([{"a": 1}], [{"b": 2}])
    numbers._memory[9:10] = b"!"  # half of the next one
    assert numbers.read(0) == {"a": 1}, "as last seen"
    assert numbers.read(1) == {"b": 2}
    numbers.write(0, "x" * shared_numbers.PART_BYTES)
    assert numbers.read(0) == {"a": 1}, "there is no room for that"


def test_what_is_added_up_and_what_is_not() -> None:
    shared = shared_numbers.SharedNumbers(2)
    first, second = metrics.Metrics(), metrics.Metrics()
    for one, count in ((first, 2), (second, 3)):
        one.add("pyscep_http_responses_total", count, code="200")
        one.add("pyscep_http_in_progress", count)
        one.set("pyscep_start_time_seconds", 100 + count)
        one.set("pyscep_ready", count - 2)
        one.observe(0.01)
    second.add("pyscep_throttled_total", 7, how="refused")
    first.share(shared, 0)
    second.share(shared, 1)
    for one in (first, second):
        lines = one.render().splitlines()
        assert 'pyscep_http_responses_total{code="200"} 5' in lines
        assert 'pyscep_throttled_total{how="refused"} 7' in lines
        assert "pyscep_http_in_progress 5" in lines
        assert "pyscep_start_time_seconds 102" in lines
        assert "pyscep_ready 0" in lines
        assert "pyscep_http_seconds_count 2" in lines
    third = metrics.Metrics()
    third.share(shared, 1)
    lines = third.render().splitlines()
    assert 'pyscep_http_responses_total{code="200"} 5' in lines, "no counter goes back"
    assert "pyscep_http_in_progress 2" in lines, "what it worked on is gone with it"


def answers(site: Site, pid: int) -> bool:
    """Whether a worker answers: the other one is stopped meanwhile, so new connections show."""
    others = [one for one in site.workers() if one != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            lines = []
            for _ in range(32):  # the kernel chooses who gets one
                line = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
                line.sendall(CAPS)
                lines.append(line)
            readable, _, _ = select.select(lines, [], [], PATIENCE)
            return bool(readable)
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """What had connected to it, and was not accepted yet, is answered by the next one."""
    with serving(tmp_path) as site:
        victim, other = site.workers()
        os.kill(victim, signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            lines = [
                stack.enter_context(socket.create_connection(("127.0.0.1", site.port), PATIENCE))
                for _ in range(32)
            ]
            for line in lines:
                line.sendall(CAPS)
            os.kill(victim, signal.SIGKILL)
            for line in lines:
                assert line.recv(65536).startswith(b"HTTP/1.1 200")
        until(lambda: len(site.workers()) == 2)
        assert victim not in site.workers()
        assert other in site.workers()
        (event,) = [one for one in site.events() if one["event"] == "worker_replaced"]
        assert event["pid"] == victim
        assert "signal 9" in event["reason"]
    assert site.process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("first_signal", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_finished(tmp_path: Path, first_signal: int) -> None:
    identity = make_ca(tmp_path)
    cases = cases_for(identity, 6)
    with serving(tmp_path) as site, contextlib.ExitStack() as stack:
        lines = []
        for case in cases:
            line = stack.enter_context(
                socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
            )
            line.sendall(case.post[:-100])
            lines.append(line)
        time.sleep(0.5)  # until the workers have read that
        site.process.send_signal(first_signal)
        time.sleep(0.5)
        bodies = []
        for line, case in zip(lines, cases, strict=True):
            line.sendall(case.post[-100:])
            parts = []
            while part := line.recv(65536):  # until it closes, which it does when it stops
                parts.append(part)
            bodies.append(body_of(b"".join(parts)))
        serials = served_cases.check_all(cases, bodies, identity)
        assert len(set(serials) - {None}) == len(cases)
        assert site.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_second_signal_ends_them_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        workers = site.workers()
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as line:
            line.sendall(CAPS)
            line.recv(65536)
            # A request that will never be whole.
            line.sendall(b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\n"
                         b"Content-Length: 100\r\n\r\nhalf")  # fmt: skip
            time.sleep(0.3)
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)  # they would not even end gently
            site.process.terminate()
            time.sleep(0.3)
            assert site.process.poll() is None
            site.process.terminate()
            assert site.process.wait(PATIENCE) == 0
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        workers = site.workers()
        site.process.kill()
        site.process.wait(PATIENCE)
        until(lambda: not any(is_running(pid) for pid in workers))


def is_running(pid: int) -> bool:
    """Whether a process is there and not a zombie that nobody waits for."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.slow
def test_workers_of_a_configuration(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "pyscep"]
    subprocess.run(
        [*words, "config", "init"], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    process = subprocess.Popen(
        [*words, "serve", "--config", "scep.toml", "--port", "0", "--workers", "3", "--json"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        assert (ready["workers"], ready["pid"]) == (3, process.pid)
        site = Site(process, ready["endpoints"][0], tmp_path, tmp_path / "log")
        assert len(site.workers()) == 3
        path = ready["endpoints"][0]["url"].partition("://")[2].partition("/")[2]
        for _ in range(6):
            request = f"GET /{path}?operation=GetCACert HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            assert body_of(drive(site.port, [request], 1).responses[0])
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(PATIENCE) == 0


def test_a_ca_that_can_not_be_opened(tmp_path: Path) -> None:
    """The first worker says what is wrong, and the parent ends with its exit code."""
    make_ca(tmp_path)
    (tmp_path / "ca" / "ca.key").chmod(0o644)
    found = [
        subprocess.run(
            [sys.executable, "-m", "pyscep", "serve", "--port", "0", "--workers", str(workers),
             "--directory", str(tmp_path / "ca")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False, timeout=60,
        )
        for workers in (1, 2)
    ]  # fmt: skip
    assert found[0].returncode == found[1].returncode != 0
    assert found[0].stderr == found[1].stderr
    assert "chmod" in found[1].stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Also by other workers of the same user, with whom it could be shared."""
    with serving(tmp_path) as site:
        found = subprocess.run(
            [sys.executable, "-m", "pyscep", "serve", "--port", str(site.port), "--workers", "2",
             "--directory", str(tmp_path / "other")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert found.returncode != 0
        assert f"can't listen on 127.0.0.1 port {site.port}" in found.stderr
        assert not (tmp_path / "other").exists()


def test_the_limit_of_a_source_is_shared() -> None:
    whole = limits.RateLimit(rate=20, burst=201, max_concurrent=32)
    share = whole.shared_by(4)
    assert (share.rate, share.burst, share.max_concurrent) == (5, 51, 8)
    assert share.failure_cost == whole.failure_cost
    assert whole.shared_by(1) == whole


def test_sockets_of_systems_that_do_not_spread_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server.sys, "platform", "darwin")
    sockets = http_server.bind_shared("127.0.0.1", 0, 3)
    try:
        assert len({one.getsockname() for one in sockets}) == 1
        assert len({one.fileno() for one in sockets}) == 3
    finally:
        for one in sockets:
            one.close()
