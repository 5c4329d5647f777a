"""micromdm's scepserver against pyscep, on the same distinct requests.

``python -m benchmarks.micromdm`` starts the server in a network namespace of its own where
that is allowed, since it can't be told to listen on 127.0.0.1 alone, and on a free port where
not. It has one core, the requests come from another one over one connection that is kept; the
time of a GetCACaps, which is all HTTP, is taken off. Every reply is opened and checked.
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import os
import secrets
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import pyscep
from benchmarks.payloads import (
    CHALLENGE_SIZES,
    authority_of,
    der_issuer,
    get_request,
)
from benchmarks.ratios import Settings, no_gc, timed
from benchmarks.served_cases import make_message
from pyscep.pki_message import decode_cert_rep

CHALLENGE = ("Sealed challenge 0123456789 " * 2000)[: CHALLENGE_SIZES["40k"]]
# It answers with algorithms of its own choice, which takes the legacy policy.
Case = tuple[pyscep.HttpRequest, pyscep.Transaction, pyscep.Identity]
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def micromdm(settings: Settings) -> dict[str, float | str]:
    """Run the measurement in a process of its own; what it found, or why not."""
    if shutil.which("scepserver") is None:
        return {"micromdm missing": "scepserver is not installed (Debian's package scep)"}
    command = [sys.executable, "-m", "benchmarks.micromdm"]
    command += [f"--rounds={settings.rounds}", f"--sample={settings.sample}"]
    for prefix in (["unshare", "-n"], ["unshare", "-r", "-n"]):
        with suppress(OSError):
            allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False)
            if allowed.returncode == 0:
                command = [*prefix, *command, "--namespace"]
                break
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float | str] = json.loads(output)
    return found


def measure(settings: Settings, depot: Path) -> dict[str, float | str]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return {"micromdm missing": "two cores are needed"}
    os.sched_setaffinity(0, cores[:1])
    each = max(2, round(settings.sample / 0.003))
    identity = _init(depot)
    cases = make_cases(identity, (settings.rounds + 1) * each)
    port = _free_port()
    process = subprocess.Popen(
        ["taskset", "-c", str(cores[1]), "scepserver", "-depot", depot, "-port", str(port),
         "-challenge", CHALLENGE, "-capass", "bench", "-allowrenew", "0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        connection = _connect(port)
        return _compare(settings, connection, process.pid, identity, cases, each)
    finally:
        process.terminate()
        process.wait(10)


def _compare(
    settings: Settings,
    connection: http.client.HTTPConnection,
    pid: int,
    identity: pyscep.Identity,
    cases: list[Case],
    each: int,
) -> dict[str, float | str]:
    server = pyscep.Server(identity)
    authority = authority_of(CHALLENGE, der_issuer(identity))
    replies: list[bytes] = []
    ours: list[float] = []
    theirs: list[float] = []
    ratios: list[float] = []
    waiting = iter(cases)
    spent = 0.0

    def ask() -> None:
        replies.append(_get(connection, next(waiting)[0].query))

    on_clock = partial(timed, clock=time.perf_counter)
    on_clock(ask, each)
    with no_gc():
        for number in range(1, settings.rounds + 1):
            batch = iter(cases[number * each : (number + 1) * each])
            before = on_clock(lambda batch=batch: server.handle(next(batch)[0], authority), each)
            http_only = on_clock(lambda: _get(connection, b"operation=GetCACaps"), each)
            start = _cpu_seconds(pid)
            whole = on_clock(ask, each)
            spent += _cpu_seconds(pid) - start
            ours.append(before)
            theirs.append(whole - http_only)
            ratios.append(theirs[-1] / before)
    for case, reply in zip(cases, replies, strict=True):
        check(case, reply, identity)
    return {
        "micromdm / ours": statistics.median(ratios),
        "micromdm us": statistics.median(theirs),
        "micromdm cpu us": spent / (settings.rounds * each) * 1e6,
        "beside micromdm us": statistics.median(ours),
        "micromdm replies checked": len(replies),
    }


def make_cases(identity: pyscep.Identity, count: int) -> list[Case]:
    """Distinct requests: names, transactions, nonces, envelopes; the keys are a few in turn."""
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(4)]
    cases = []
    for number in range(count):
        key, subject = keys[number % len(keys)], f"CN=device-{number},O=Lab"
        message, transaction, signer = make_message(identity, key, subject, CHALLENGE)
        cases.append((get_request(message), transaction, signer))
    return cases


def check(case: Case, reply: bytes, identity: pyscep.Identity) -> None:
    """The reply opens, is signed, and has a certificate of the CA for the key that asked."""
    _, transaction, signer = case
    found = decode_cert_rep(
        reply,
        transaction=transaction,
        signers=(identity.raw,),
        recipient=signer,
        policy=pyscep.LEGACY,
        token_bytes=secrets.token_bytes,
    )
    (issued,) = (x509.load_der_x509_certificate(one) for one in found.certificates)
    issued.verify_directly_issued_by(identity.certificate)
    if issued.public_key() != signer.certificate.public_key():
        raise RuntimeError("a certificate for another key")


def _init(depot: Path) -> pyscep.Identity:
    subprocess.run(
        ["scepserver", "ca", "-init", "-depot", depot, "-keySize", "2048",
         "-key-password", "bench"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    certificate = x509.load_pem_x509_certificate((depot / "ca.pem").read_bytes())
    return pyscep.Identity(
        certificate, load_pem_private_key((depot / "ca.key").read_bytes(), b"bench")
    )


def _get(connection: http.client.HTTPConnection, query: bytes) -> bytes:
    connection.request("GET", "/scep?" + query.decode("ascii"))
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"HTTP {response.status}: {body[:200]!r}")
    return body


def _connect(port: int) -> http.client.HTTPConnection:
    end = time.monotonic() + 15
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        try:
            connection.connect()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            assert connection.sock is not None
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _raise_loopback() -> None:
    with socket.socket() as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def main() -> None:
    """Measure, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sample", type=float, default=0.02)
    parser.add_argument("--namespace", action="store_true", help="raise the loopback first")
    arguments = parser.parse_args()
    if arguments.namespace:
        _raise_loopback()
    settings = Settings(rounds=arguments.rounds, sample=arguments.sample)
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measure(settings, Path(name) / "depot")))


if __name__ == "__main__":
    main()
