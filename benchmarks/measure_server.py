"""Enrollments on the server, against their cryptography and the reference."""

from __future__ import annotations

import os
import statistics
import threading
import time

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from benchmarks import floor, reference
from benchmarks.counts import count_calls
from benchmarks.measure_client import read_reply
from benchmarks.payloads import CHALLENGE_SIZES, Enrollment, make_enrollment
from benchmarks.ratios import Results, Settings, Work, compare, no_gc, note, pin
from pyscep import codec

PKI_MESSAGE = "application/x-pki-message"


def server(settings: Settings, sizes: tuple[str, ...] = tuple(CHALLENGE_SIZES)) -> Results:
    """A raw GET query to the bytes of a CertRep, all checks on, authority in memory."""
    results: Results = {}
    for size in sizes:
        case = make_enrollment(size, CHALLENGE_SIZES[size])
        results[f"server {size} query bytes"] = len(case.request.query)
        theirs = reference_server(case)
        check_replies(case, theirs)
        works = [_server(case)]
        if codec.BACKEND == "native":
            works += [theirs, lambda c=case: c.server.handle(c.request, c.builder_authority)]
        measured = compare(settings, floor.server_floor(case.floor), *works)
        note(results, f"server {size}", measured[0])
        results[f"floor {size} us"] = measured[0].base
        if codec.BACKEND == "native":
            note(results, f"reference {size}", measured[1])
            note(results, f"server {size} with CertificateBuilder", measured[2])
            ours = measured[0].ratio - 1
            results[f"overhead {size}"] = (measured[1].ratio - 1) / ours if ours > 0 else 1e9
    return results


def _server(case: Enrollment) -> Work:
    return lambda: case.server.handle(case.request, case.authority)


def reference_server(case: Enrollment) -> Work:
    query, challenge = case.request.query, case.challenge
    certificate, key = case.identity.certificate, case.identity.private_key
    return lambda: reference.handle(query, certificate, key, challenge)


def check_replies(case: Enrollment, theirs: Work) -> None:
    """Both answer with a certificate for the right key, and each reads the other's reply."""
    response = case.server.handle(case.request, case.authority)
    if response.media_type != PKI_MESSAGE:
        raise RuntimeError("the server did not answer with a CertRep")
    reply = theirs()
    assert isinstance(reply, bytes)
    for body in (response.body, reply):
        issued = reference.open_reply(
            body,
            case.identity.certificate,
            case.signer.private_key,
            case.transaction.sender_nonce,
        )
        read = read_reply(case, body)()
        if not (read.certificates == (issued,) and issued.public_key() == case.csr.public_key):
            raise RuntimeError("a reply has another certificate in it")


def keys(settings: Settings) -> Results:
    """Key loads for each request, and what one would cost."""
    case = make_enrollment("40k", CHALLENGE_SIZES["40k"])
    counted = count_calls(_server(case))
    pem = case.identity.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def loading() -> object:
        key = load_der_private_key(pem, None)
        return reference.handle(case.request.query, case.identity.certificate, key, case.challenge)

    slow = Settings(rounds=settings.rounds, sample=settings.sample / 2)
    (measured,) = compare(slow, _server(case), loading)
    return {"key loads": counted["key loads"], "load per request": measured.ratio}


def calls(_: Settings) -> Results:
    """Python and C calls of one enrollment above those of its floor."""
    results = {}
    for size in ("small", "40k"):
        case = make_enrollment(size, CHALLENGE_SIZES[size])
        base = count_calls(floor.server_floor(case.floor))["calls"]
        results[f"calls {size}"] = count_calls(_server(case))["calls"] - base
        results[f"calls {size} reference"] = count_calls(reference_server(case))["calls"] - base
        results[f"calls {size} floor"] = base
    return results


def threads(settings: Settings) -> Results:
    """Enrollments in two threads on two cores against one thread."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) == 1:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return {}
    case = make_enrollment("8k", CHALLENGE_SIZES["8k"])
    work = _server(case)
    count = max(4, round(settings.sample * 3 / 0.001))
    ratios = []
    with no_gc():
        for _ in range(settings.rounds):
            before = _in_threads(work, 1, count)
            both = _in_threads(work, 2, count)
            ratios.append(2 * (before + _in_threads(work, 1, count)) / 2 / both)
    pin()
    return {"two threads": statistics.median(ratios), "two threads best": max(ratios)}


def _in_threads(work: Work, number: int, count: int) -> float:
    """Seconds until each of so many threads has done ``count`` calls."""
    barrier = threading.Barrier(number + 1)

    def run() -> None:
        barrier.wait()
        for _ in range(count):
            work()

    running = [threading.Thread(target=run) for _ in range(number)]
    for thread in running:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in running:
        thread.join()
    return time.perf_counter() - start
