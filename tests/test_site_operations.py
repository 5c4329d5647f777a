"""Limits, numbers, health and logs around a site, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import pyscep
from pyscep.adapters import http_protocol
from pyscep.adapters.asgi import ScepApp
from pyscep.ca import CertificateAuthority, checks
from pyscep.ca.audit import Decision
from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected
from pyscep.site import health as health_module
from pyscep.site import limits, logs
from pyscep.site import metrics as metrics_module
from pyscep.site.health import Health
from pyscep.site.limits import RateLimit, SourceConnections, SourceLimits
from pyscep.site.metrics import Metrics
from pyscep.site.operations import Operations, for_serving, readiness
from pyscep.site.proxies import TrustedProxies, forwarded_hops
from pyscep.transaction import Transaction
from tests import forge_keys as keys
from tests.ca_setting import START, Setting
from tests.cli_lab import failed, listening
from tests.raw_http import talk

ROOT = Path(__file__).resolve().parent.parent
STRANGER = "192.0.2.1"


class Clock:
    """Seconds, as many as a test wants."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


# --- who is asking ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),  # nobody trusts that peer
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.9", "198.51.100.9"),  # the left one is the sender's
        ("10.0.0.1", "1.1.1.1, 198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),  # a client inside
        ("10.0.0.1", "198.51.100.9:4711", "198.51.100.9"),
        ("10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("10.0.0.1", '"2001:db8::7"', "2001:db8::7"),
        ("10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "127.0.0.1", "10.0.0.1"),  # not this machine, which has no limits
        ("10.0.0.1", "::1, 10.0.0.2", "10.0.0.2"),
        (None, "127.0.0.1", "127.0.0.1"),
        ("10.0.0.1", "198.51.100.9, unknown", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", ",".join(["10.0.0.2"] * 100), "10.0.0.2"),
        ("10.0.0.1", 'fe80::7%x status="SUCCESS', "fe80::7"),  # any text is a zone, even that
        ("10.0.0.1", "[fe80::7%25\x1b[2J]:80", "fe80::7"),
        (None, "198.51.100.9", "198.51.100.9"),
        (None, None, None),
        ("testclient", "198.51.100.9", "198.51.100.9"),
    ],
)
def test_source_behind_proxies(peer: str | None, forwarded: str | None, source: str | None) -> None:
    assert TrustedProxies(["10.0.0.0/24", "unix"]).source(peer, forwarded) == source


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        # The examples of RFC 7239, sections 4 and 7.1.
        ('for="_gazonk"', ["_gazonk"]),
        ('For="[2001:db8:cafe::17]:4711"', ["[2001:db8:cafe::17]:4711"]),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
        ("for=192.0.2.43, for=198.51.100.17", ["198.51.100.17", "192.0.2.43"]),
        ('for=192.0.2.43, for="[2001:db8:cafe::17]", for=unknown',
         ["unknown", "[2001:db8:cafe::17]", "192.0.2.43"]),
        ("for=_hidden, for=_SEVKISEK", ["_SEVKISEK", "_hidden"]),
        ("by=203.0.113.43 ; for=192.0.2.60", ["192.0.2.60"]),
        ("for=192.0.2.60:4711", ["192.0.2.60:4711"]),  # without the quotes that it should have
        ("proto=https", [""]),
        ("", []),
        ("192.0.2.60", []),
        # What a stranger wrote before it changes nothing in what the last proxy added.
        ('for="6.6.6.6, for=192.0.2.1;host="a.example"', ["192.0.2.1"]),
        ('for=", for=192.0.2.1', ["192.0.2.1"]),
        ('a=";b, for="[2001:db8::1]";proto=http', ["[2001:db8::1]"]),
        (", for=192.0.2.1", ["192.0.2.1"]),
        ("x" * 9000 + ",for=192.0.2.1", ["192.0.2.1"]),
        # A proxy may quote the Host header, which is the stranger's.
        (r'for=192.0.2.1;host="x, for=6.6.6.6"', ["192.0.2.1"]),
        (r'for=192.0.2.1;host="x, for=6.6.6.6;a=\""', ["192.0.2.1"]),
        (r'host="x;for=6.6.6.6;a=\"";for=192.0.2.1', ["192.0.2.1"]),
        ("for=1.1.1.1, " * 100 + "for=192.0.2.1", ["192.0.2.1", *["1.1.1.1"] * 31]),
    ],
)
def test_forwarded(text: str, hops: list[str]) -> None:
    assert [hop.strip('"') for hop in forwarded_hops(text)] == hops


@pytest.mark.parametrize(
    ("forwarded", "source"),
    [
        ("for=1.1.1.1, for=198.51.100.9;proto=http", "198.51.100.9"),
        ('for="[2001:db8::7]:443", for=10.0.0.2', "2001:db8::7"),
        ("for=198.51.100.9, for=unknown", "10.0.0.1"),
        ('for=198.51.100.9, for="', "10.0.0.1"),
        ("198.51.100.9", "10.0.0.1"),  # as X-Forwarded-For has it
        (None, "10.0.0.1"),
    ],
)
def test_source_by_rfc_7239(forwarded: str | None, source: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/24"], "forwarded")
    assert proxies.source("10.0.0.1", forwarded) == source
    assert proxies.source("192.0.2.1", forwarded) == "192.0.2.1", "nobody trusts that peer"


def test_only_the_header_of_the_proxies_counts() -> None:
    """A proxy hands on the header that it doesn't know, as the stranger wrote it."""
    layer = Operations(trusted_proxies=["127.0.0.1"], forwarded_header="forwarded")
    with serving(layer, tells_source) as port:
        assert b"192.0.2.1" in get(port, "/", forwarded=f"for={STRANGER}")[2]
        assert b"127.0.0.1" in get(port, "/", x_forwarded_for=STRANGER)[2]
        assert get(port, "/metrics", x_forwarded_for=STRANGER)[0] == 404
    with serving(Operations(trusted_proxies=["127.0.0.1"]), tells_source) as port:
        assert b"127.0.0.1" in get(port, "/", forwarded=f"for={STRANGER}")[2]
        assert get(port, "/metrics", forwarded=f"for={STRANGER}")[0] == 404
        assert get(port, "/metrics")[0] == 200


def test_this_machine_behind_a_proxy_on_it() -> None:
    assert TrustedProxies(["127.0.0.1"]).source("127.0.0.1", "127.0.0.1") == "127.0.0.1"
    assert TrustedProxies(["127.0.0.1"]).source("127.0.0.1", "10.0.0.9") == "10.0.0.9"


def test_a_peer_with_a_zone() -> None:
    assert TrustedProxies().source("fe80::1%eth0", None) == "fe80::1"
    assert TrustedProxies(["fe80::/10"]).source("fe80::1%eth0", "192.0.2.1") == "192.0.2.1"


def test_nobody_is_trusted_unasked() -> None:
    assert TrustedProxies().source("127.0.0.1", "198.51.100.9") == "127.0.0.1"
    assert TrustedProxies().source(None, "198.51.100.9") is None
    with pytest.raises(ValueError, match="nginx"):
        TrustedProxies(["nginx"])


# --- how often -------------------------------------------------------------------------


def test_bucket() -> None:
    clock = Clock()
    sources = SourceLimits(RateLimit(rate=2, burst=3, max_delay=1), clock=clock)
    admitted = [sources.admit(STRANGER) for _ in range(6)]
    assert [one.delay for one in admitted] == [0, 0, 0, 0.5, 1, 0]
    assert [one.retry_after for one in admitted] == [None] * 5 + [2]
    assert sources.admit("192.0.2.2").delay == 0, "somebody else is not concerned"
    clock.time += 60
    assert [sources.admit(STRANGER).delay for _ in range(4)] == [0, 0, 0, 0.5]


def test_ipv6_counts_by_network() -> None:
    sources = SourceLimits(RateLimit(burst=1, max_delay=0), clock=Clock())
    assert sources.admit("2001:db8::1").retry_after is None
    assert sources.admit("2001:db8::ffff:2").retry_after == 1
    assert sources.admit("2001:db8:0:1::1").retry_after is None


@pytest.mark.parametrize("source", [None, "127.0.0.1", "::1", "::ffff:127.0.0.1", "x" * 1000])
def test_this_machine_is_not_limited(source: str | None) -> None:
    sources = SourceLimits(RateLimit(burst=1, max_delay=0), clock=Clock())
    for _ in range(5):
        assert sources.admit(source) == limits.Admission()
        sources.charge(source, 100)
        sources.release(source)


def test_concurrency_of_one_source() -> None:
    sources = SourceLimits(RateLimit(max_concurrent=2), clock=Clock())
    assert [sources.admit(STRANGER).retry_after for _ in range(3)] == [None, None, 1]
    sources.release(STRANGER)
    assert sources.admit(STRANGER).retry_after is None
    sources.release("192.0.2.99")  # never heard of


def test_sources_are_forgotten_oldest_first() -> None:
    sources = SourceLimits(RateLimit(burst=1, max_delay=0, max_sources=2), clock=Clock())
    for source in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        assert sources.admit(source).retry_after is None
    assert sources.admit("192.0.2.3").retry_after == 1, "known"
    assert sources.admit("192.0.2.1").retry_after is None, "forgotten"


@pytest.mark.parametrize("name", ["rate", "burst", "max_concurrent", "max_sources"])
def test_limits_that_let_nobody_in(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        RateLimit(**{name: 0})


def events() -> list[Any]:
    place = {"source": STRANGER, "path": "/scep"}
    answered = {**place, "message_type": "PKCS_REQ", "signer_fingerprint": "",
                "transaction": Transaction(transaction_id="1")}
    return [
        RequestRejected(error=pyscep.ProtocolError("x"), http_status=400, **place),
        RequestAnswered(outcome=pyscep.Failure(), **answered),
        RequestAnswered(outcome=pyscep.Pending(), **answered),
        RequestAnswered(outcome=pyscep.Success(), **answered),
        AuthorityFailed(error=OSError("x"), transaction=answered["transaction"], **place),
    ]


def test_failures_cost_more() -> None:
    sources = SourceLimits(RateLimit(rate=1, burst=10, failure_cost=4, max_delay=0), clock=Clock())
    for event in events():
        sources.on_event(event)
    assert [sources.admit(STRANGER).retry_after for _ in range(3)] == [None, None, 1]
    sources.charge(STRANGER, 1_000_000)
    assert sources.admit(STRANGER).retry_after == 11, "a debt is bounded"


# --- numbers ---------------------------------------------------------------------------


def test_metrics() -> None:
    metrics = Metrics()
    for event in events():
        metrics.on_event(event)
    metrics.on_decision(
        Decision(at=START, who="x", action="enroll", decision="granted"))
    for seconds in (0.001, 0.3, 60):
        metrics.observe(seconds)
    metrics.add("pyscep_http_responses_total", code='2"0\\0\n')
    text = metrics.render()
    for line in (
        'pyscep_messages_total{message="PKCS_REQ",status="FAILURE"} 1',
        'pyscep_messages_total{message="PKCS_REQ",status="PENDING"} 1',
        'pyscep_messages_total{message="PKCS_REQ",status="SUCCESS"} 1',
        'pyscep_rejected_total{error="ProtocolError",http_status="400"} 1',
        'pyscep_authority_failures_total{error="OSError"} 1',
        'pyscep_decisions_total{action="enroll",decision="granted"} 1',
        'pyscep_http_seconds_bucket{le="0.005"} 1',
        'pyscep_http_seconds_bucket{le="0.5"} 2',
        'pyscep_http_seconds_bucket{le="+Inf"} 3',
        "pyscep_http_seconds_sum 60.301000",
        "pyscep_http_seconds_count 3",
        'pyscep_http_responses_total{code="2\\"0\\\\0\\n"} 1',
    ):
        assert f"\n{line}\n" in text
    sample = re.compile(r'[a-z_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)+\})? -?[0-9.e+]+')
    for line in text.splitlines():
        assert line.startswith(("# HELP pyscep_", "# TYPE pyscep_")) or sample.fullmatch(line), line
    assert "pyscep_overload_total" not in text, "what never happened has no number"


# --- health ----------------------------------------------------------------------------


def test_readiness_of_a_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    with CertificateAuthority.create(tmp_path / "ca", key_type="ec-p256") as ca:
        looks = readiness([ca, ca])
        assert sorted(looks) == ["clock", "database", "key"]
        for look in looks.values():
            look()
        certificate = ca.issuer.certificate
        for moment, said in (
            (now - timedelta(days=30), "before a certificate"),
            (now + timedelta(days=36500), "has ended"),
        ):
            with pytest.raises(checks.NotReady, match=said):
                checks.check_clock(ca.store, certificate, moment)


def test_clock_that_went_backwards(tmp_path: Path) -> None:
    setting = Setting(tmp_path, static_challenge="s")
    setting.certificate("s")
    issuer = setting.settings["issuer"]
    check = checks.checks_of(setting.ca.store, (issuer,), setting.clock)["clock"]
    setting.clock.pass_by(minutes=-5)
    check()
    setting.clock.pass_by(seconds=-1)
    with pytest.raises(checks.NotReady, match="backwards"):
        check()


def test_key_that_does_not_fit(tmp_path: Path) -> None:
    identity = Setting(tmp_path).settings["issuer"]

    class Other:
        def __init__(self, key: Any) -> None:
            self.certificate, self.private_key = identity.certificate, key

    checks.check_key(identity)
    with pytest.raises(checks.NotReady, match="does not fit"):
        checks.check_key(Other(keys.rsa_key("other")))  # type: ignore[arg-type] # as a broken one
    with pytest.raises(checks.NotReady, match="different kinds"):
        checks.check_key(Other(ec.generate_private_key(ec.SECP256R1())))  # type: ignore[arg-type]  # that is the point


def test_looks_are_kept_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks = Clock(), []

    def database() -> None:
        looks.append(1)
        raise OSError("disk\nfull")

    health = Health({"database": database, "key": lambda: None}, kept=5, clock=clock)

    async def ask() -> Any:
        found = (await asyncio.gather(*(health.ready() for _ in range(4))))[3]
        assert len(looks) == 1, "four asked at once"
        clock.time += 5
        await health.ready()
        return found

    found = asyncio.run(ask())
    assert (found.ready, found.failed, len(looks)) == (False, ("database",), 2)
    assert "disk\\nfull" in caplog.text
    response = found.response()
    assert response.status == 503
    assert json.loads(response.body) == {
        "status": "not ready", "checks": {"database": "failed", "key": "ok"}}
    assert b"disk" not in response.body
    monkeypatch.setattr(health_module, "CHECK_SECONDS", 0.01)
    slow = Health({"database": lambda: __import__("time").sleep(0.2)})
    assert asyncio.run(slow.ready()).failed == ("database",)


# --- the layer -------------------------------------------------------------------------


@contextlib.contextmanager
def serving(layer: Operations, inner: Any, looks: dict[str, Any] | None = None) -> Iterator[int]:
    with listening(layer.app(inner, looks or {})) as origin:
        yield int(origin.rpartition(":")[2])


def get(
    port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


async def tells_source(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the source that it sees."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr(scope["client"]).encode()})


def test_pages() -> None:
    broken: list[int] = []

    def look() -> None:
        if broken:
            raise OSError

    layer = Operations(trusted_proxies=["127.0.0.1"])
    with serving(layer, tells_source, {"database": look}) as port:
        assert get(port, "/healthz")[::2] == (200, b"ok\n")
        assert get(port, "/healthz", "HEAD")[::2] == (200, b"")
        assert get(port, "/healthz", "POST", b"x")[0] == 405
        assert json.loads(get(port, "/readyz")[2])["status"] == "ready"
        assert get(port, "/elsewhere")[2] == b"('127.0.0.1', 0)"
        status, headers, body = get(port, "/metrics")
        assert (status, headers["content-type"]) == (
            200, "text/plain; version=0.0.4; charset=utf-8")
        assert b'\npyscep_http_responses_total{code="200"} 1\n' in body
        assert b"\npyscep_ready 1\n" in body
        assert b"\npyscep_http_in_progress 0\n" in body
        assert get(port, "/metrics", x_forwarded_for=STRANGER)[0] == 404, "not for strangers"
        assert get(port, "/x", x_forwarded_for=STRANGER)[2] == b"('192.0.2.1', 0)"


def test_events_without_limits() -> None:
    layer = Operations()
    for event in events():
        layer.on_event(event)
    assert 'status="FAILURE"} 1' in layer.metrics.render()


def test_metrics_are_not_shown_through_an_unknown_proxy() -> None:
    with serving(Operations(), tells_source) as port:
        assert get(port, "/metrics")[0] == 200
        assert get(port, "/metrics", x_forwarded_for="127.0.0.1")[0] == 404


def test_ready_becomes_not_ready_and_ready_again(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    look = checks.checks_of(setting.ca.store, (), setting.clock)["database"]
    health = Health({"database": look}, kept=0)
    assert asyncio.run(health.ready()).ready
    away = tmp_path / "away.db"
    setting.database.rename(away)
    assert not asyncio.run(health.ready()).ready
    away.rename(setting.database)
    assert asyncio.run(health.ready()).ready


def test_too_often() -> None:
    clock = Clock()
    sources = SourceLimits(RateLimit(rate=0.1, burst=2, max_delay=0), clock=clock)
    layer = Operations(limits=sources, trusted_proxies=["127.0.0.1"])
    with serving(layer, tells_source) as port:
        def ask(source: str = STRANGER) -> tuple[int, dict[str, str], bytes]:
            return get(port, "/scep", "POST", b"x" * 50_000, x_forwarded_for=source)

        assert [ask()[0] for _ in range(3)] == [200, 200, 429]
        status, headers, _ = ask()
        assert (status, headers["retry-after"]) == (429, "10")
        assert get(port, "/scep", x_forwarded_for=STRANGER)[0] == 429
        assert ask("192.0.2.2")[0] == 200, "somebody else gets through"
        assert get(port, "/healthz", x_forwarded_for=STRANGER)[0] == 200
        clock.time += 10
        assert ask()[0] == 200
        for event in events():
            layer.on_event(event)
        assert b'pyscep_throttled_total{how="refused"} 3' in get(port, "/metrics")[2]


@pytest.mark.parametrize(
    "first",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(range(192, 204)),
    ],
    ids=["version 1", "version 2"],
)
def test_the_proxy_protocol_is_refused(first: bytes) -> None:
    """As docs/deploy says: not taken for a request, and no address in it believed."""
    with serving(Operations(trusted_proxies=["127.0.0.1"]), tells_source) as port:
        reply = talk(port, first + b"GET / HTTP/1.0\r\n\r\n")
        assert reply.status == 400


def test_held_back() -> None:
    sources = SourceLimits(RateLimit(rate=1000, burst=1, max_delay=1), clock=Clock())
    layer = Operations(limits=sources, trusted_proxies=["127.0.0.1"])
    with serving(layer, tells_source) as port:
        assert [get(port, "/", x_forwarded_for=STRANGER)[0] for _ in range(2)] == [200, 200]
        assert b'pyscep_throttled_total{how="delayed"} 1' in get(port, "/metrics")[2]


def test_full_queue() -> None:
    """The next one gets 503 with Retry-After, before its body is read; then it goes on."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/slow":
            entered.set()
            await leave.wait()
        await tells_source(scope, receive, send)

    layer = Operations(max_pending=1)
    app = layer.app(waits, {})

    async def run() -> list[int]:
        statuses: list[int] = []

        async def ask(path: str) -> dict[str, Any]:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            scope = {"type": "http", "method": "POST", "path": path, "headers": [],
                     "client": (STRANGER, 1), "http_version": "1.1"}
            await app(scope, receive, send)
            statuses.append(sent[0]["status"])
            return dict(sent[0]["headers"])

        slow = asyncio.create_task(ask("/slow"))
        await entered.wait()
        headers = await ask("/fast")
        assert headers[b"retry-after"] == b"5"
        leave.set()
        await slow
        await ask("/fast")
        return statuses

    assert asyncio.run(run()) == [503, 200, 200]
    assert "pyscep_overload_total 1" in layer.metrics.render()


def test_events_and_decisions_have_the_source_behind_the_proxy(tmp_path: Path) -> None:
    seen: list[Any] = []
    layer = for_serving(["127.0.0.1"])
    with CertificateAuthority.create(tmp_path / "ca", static_challenge="s") as ca:
        decisions: list[Decision] = []
        ca.store.on_decision = decisions.append
        app = ScepApp(ca.server(on_event=seen.append), ca)
        with serving(layer, app) as port:
            client = pyscep.Client(f"http://127.0.0.1:{port}/scep", ca_fingerprint=ca.fingerprint)
            key = keys.rsa_key("client")
            csr = pyscep.pkcs10.create(key, "CN=device", challenge_password="s")
            send = pyscep.urllib_sender()

            def through_proxy(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
                from dataclasses import replace

                more = (*request.headers, ("x-forwarded-for", f"10.9.9.9, {STRANGER}"))
                return send(replace(request, headers=more))

            assert isinstance(pyscep.run(client.enroll(key, csr), through_proxy), pyscep.Success)
    assert [one.source for one in seen] == [STRANGER]
    assert [one.who for one in decisions] == [STRANGER]


def test_a_network_that_is_none(tmp_path: Path) -> None:
    error = failed(2, "serve", "--directory", tmp_path / "d", "--trusted-proxy", "nginx")
    assert "--trusted-proxy" in error["message"]


# --- connections -----------------------------------------------------------------------


def test_connections_of_one_source() -> None:
    refused: list[int] = []
    proxies = TrustedProxies(["10.0.0.0/24", "unix"])
    held = SourceConnections(2, proxies, lambda: refused.append(1))
    assert [held.opened(STRANGER) for _ in range(3)] == [True, True, False]
    assert held.opened("192.0.2.2"), "somebody else is not concerned"
    held.closed(STRANGER)
    assert [held.opened(STRANGER) for _ in range(2)] == [True, False]
    assert [held.opened(f"2001:db8::{n}") for n in range(3)] == [True, True, False]
    for free in ("10.0.0.7", "127.0.0.1", "::1", None):
        assert [held.opened(free) for _ in range(5)] == [True] * 5
        held.closed(free)
    for source in (STRANGER, STRANGER, "192.0.2.2", "2001:db8::a", "2001:db8::b"):
        held.closed(source)
    assert held._open == {}, "nothing is kept of who is gone"
    assert len(refused) == 3


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Two:
    """Lets two connections in at a time, loopback or not."""

    def __init__(self) -> None:
        self.peers: list[str | None] = []

    def opened(self, peer: str | None) -> bool:
        if len(self.peers) == 2:
            return False
        self.peers.append(peer)
        return True

    def closed(self, peer: str | None) -> None:
        self.peers.remove(peer)


@pytest.mark.parametrize("protocol", [http_protocol.WithH11, http_protocol.WithHttptools])
def test_one_connection_too_many(protocol: Any) -> None:
    """It is closed without an answer; when another one ends, the next is served."""
    held = Two()
    with listening(tells_source, connections=held, protocol=protocol) as origin:
        port = int(origin.rpartition(":")[2])
        first, second = (socket.create_connection(("127.0.0.1", port), 20) for _ in range(2))
        with first, second:
            wait_until(lambda: len(held.peers) == 2)
            with socket.create_connection(("127.0.0.1", port), 20) as third:
                try:
                    assert third.recv(100) == b""
                except ConnectionResetError:
                    pass
            second.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert second.recv(100).startswith(b"HTTP/1.1 200")
        wait_until(lambda: not held.peers)
        assert get(port, "/")[0] == 200


def test_connections_that_nobody_counts() -> None:
    assert Operations(max_connections=None).connections is None
    layer = Operations(max_connections=1)
    assert layer.connections is not None
    assert [layer.connections.opened(STRANGER) for _ in range(2)] == [True, False]
    assert 'pyscep_throttled_total{how="disconnected"} 1' in layer.metrics.render()


# --- logs ------------------------------------------------------------------------------


@pytest.mark.rule("X11")
def test_foreign_text_in_logs() -> None:
    text = "a\nb\x1b[2J\u202e" + "x" * 1000
    line = logs.json_line({"text": text, "number": 3, "none": None, "list": [text]})
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert found["text"].startswith("a\\nb\\x1b[2J\\u202exxx")
    assert found["text"].isprintable()
    assert len(found["text"]) == len(found["list"]) == 256
    assert (found["number"], found["none"]) == (3, None)


def test_formatter() -> None:
    record = logging.LogRecord("pyscep.x", logging.ERROR, "", 1, "said %s", ("a\nb",), None)
    found = json.loads(logs.JsonFormatter().format(record))
    assert (found["level"], found["logger"], found["text"]) == ("ERROR", "pyscep.x", "said a\\nb")
    try:
        raise OSError("c\nd")
    except OSError:
        record.exc_info = sys.exc_info()
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    assert "OSError: c" in json.loads(line)["traceback"]


def test_decision_as_a_record() -> None:
    decision = Decision(at=START, who="\x1b", action="enroll", decision="refused", reason="no")
    assert logs.describe_decision(decision) == {
        "time": START.isoformat(timespec="milliseconds"), "event": "decision", "who": "\x1b",
        "action": "enroll", "decision": "refused", "reason": "no"}


# --- stopping --------------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_during_a_request(tmp_path: Path) -> None:
    """The request is answered, no other one is let in, and the exit code is 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pyscep", "serve", "--port", "0", "--json",
         "--directory", str(tmp_path / "ca")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        port = int(re.findall(r":(\d+)/", ready["url"])[0])
        assert get(port, "/readyz")[0] == 200
        assert get(port, "/healthz")[0] == 200
        client = pyscep.Client(ready["url"], ca_fingerprint=ready["fingerprint"], method="post")
        key = keys.rsa_key("client")
        csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=ready["challenge"])

        def interrupted(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
            if request.method != "POST":
                return pyscep.urllib_sender()(request)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
                head = (
                    "POST /scep?operation=PKIOperation HTTP/1.1\r\nhost: x\r\n"
                    f"content-length: {len(request.body)}\r\n\r\n"
                )
                sock.sendall(head.encode() + request.body[:100])
                while b"pyscep_http_in_progress 1" not in get(port, "/metrics")[2]:
                    pass
                process.send_signal(signal.SIGTERM)
                while True:
                    try:
                        socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    except ConnectionError:
                        break  # nobody new is let in
                sock.sendall(request.body[100:])
                answer = http.client.HTTPResponse(sock)
                answer.begin()
                headers = tuple((k.lower(), v) for k, v in answer.getheaders())
                return pyscep.HttpResponse(
                    status=answer.status, headers=headers, body=answer.read())

        assert isinstance(pyscep.run(client.enroll(key, csr), interrupted), pyscep.Success)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(metrics_module, "version", missing)
    assert 'pyscep_info{version="unknown"} 1' in Metrics().render()
