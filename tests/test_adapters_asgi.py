"""pyscep.adapters.asgi: as an application, as an endpoint of Starlette, and scope by scope."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

import pyscep
from pyscep.adapters import answer, asgi
from pyscep.adapters.asgi import ScepApp
from tests import forge_keys as keys
from tests.endpoint import CHALLENGE, Authority, identity

Message = dict[str, Any]
SLOW = 0.15


class Lab:
    """A CA and a client's key."""

    def __init__(self) -> None:
        self.ca = keys.ca()
        self.authority = Authority(self.ca)
        self.events: list[Any] = []
        self.server = pyscep.Server(identity(self.ca), on_event=self.events.append)
        self.key = keys.rsa_key("client")

    def client(self, method: str = "auto") -> pyscep.Client:
        method_: Any = method
        pinned = (self.ca.certificate,)
        return pyscep.Client("http://ca.test/scep", ca_certificates=pinned, method=method_)

    def csr(self, challenge: str = CHALLENGE) -> pyscep.CertificateRequest:
        return pyscep.pkcs10.create(self.key, "CN=client", challenge_password=challenge)


@pytest.fixture
def lab() -> Lab:
    return Lab()


def enroll(lab: Lab, app: Any, *, method: str = "auto", challenge: str = CHALLENGE) -> Any:
    async def main() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport) as client:
            flow = lab.client(method).enroll(lab.key, lab.csr(challenge))
            return await pyscep.run_async(flow, pyscep.httpx_sender(client))

    return asyncio.run(main())


def starlette(app: ScepApp) -> Starlette:
    outer = Starlette()
    outer.add_route("/scep{tail:path}", app, methods=["GET", "POST"])
    return outer


# --- whole enrollments ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize("wrap", [lambda app: app, starlette], ids=["alone", "starlette"])
def test_enroll(lab: Lab, method: str, wrap: Callable[[ScepApp], Any]) -> None:
    result = enroll(lab, wrap(ScepApp(lab.server, lab.authority)), method=method)
    assert isinstance(result, pyscep.Success)
    assert lab.authority.seen[0].path == "/scep"
    assert lab.authority.seen[0].source == "127.0.0.1"


def test_an_async_authority_runs_on_the_loop(lab: Lab) -> None:
    threads: list[threading.Thread] = []

    class Decider:
        async def __call__(self, request: pyscep.PkiRequest) -> pyscep.Outcome:
            threads.append(threading.current_thread())
            await asyncio.sleep(0)
            outcome: pyscep.Outcome = lab.authority(request)
            return outcome

    assert isinstance(enroll(lab, ScepApp(lab.server, Decider())), pyscep.Success)
    assert threads == [threading.main_thread()]


def test_a_plain_authority_runs_in_the_pool(lab: Lab) -> None:
    names: list[str] = []

    def decide(request: pyscep.PkiRequest) -> pyscep.Outcome:
        names.append(threading.current_thread().name)
        outcome: pyscep.Outcome = lab.authority(request)
        return outcome

    assert isinstance(enroll(lab, ScepApp(lab.server, decide)), pyscep.Success)
    assert names[0].startswith("pyscep")


def test_which_authorities_are_async() -> None:
    async def coroutine(_: Any) -> Any: ...

    class Both:
        async def __call__(self, _: Any) -> Any: ...

    assert asgi.is_async(coroutine)
    assert asgi.is_async(Both())
    assert not asgi.is_async(print)
    assert not asgi.is_async(Authority())


@pytest.mark.rule("H20")
def test_a_wrong_challenge_is_a_failure_and_not_an_http_error(lab: Lab) -> None:
    app = ScepApp(lab.server, lab.authority, minimum_failure_seconds=0)
    with pytest.raises(pyscep.EnrollmentRefused):
        enroll(lab, app, challenge="wrong")


@pytest.mark.parametrize("kind", [RuntimeError("secret"), pyscep.server.AuthorityUnavailable("x")])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_authority_that_raises_is_503(
    lab: Lab, kind: Exception, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """DECISIONS 8: devices give up on a FAILURE, so our own fault is never one."""

    def plain(_: Any) -> Any:
        raise kind

    async def coroutine(_: Any) -> Any:
        raise kind

    with pytest.raises(pyscep.TransportError) as caught:
        enroll(lab, ScepApp(lab.server, coroutine if is_async else plain))
    assert caught.value.status == 503
    assert caught.value.retry_after == 30
    assert "secret" not in str(caught.value)
    assert [type(event).__name__ for event in lab.events] == ["AuthorityFailed"]
    level = logging.ERROR if isinstance(kind, RuntimeError) else logging.WARNING
    assert [record.levelno for record in caplog.records] == [level]


def test_an_outcome_that_cannot_be_sent_is_503(lab: Lab) -> None:
    with pytest.raises(pyscep.TransportError) as caught:
        enroll(lab, ScepApp(lab.server, lambda _: pyscep.Success()))
    assert caught.value.status == 503


def test_a_defect_is_500_and_tells_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("internals")

    monkeypatch.setattr(lab.server, "receive", broken)
    for authority in (lab.authority, a_coroutine):
        messages = call(ScepApp(lab.server, authority), query=b"operation=GetCACaps")
        assert messages[0]["status"] == 500
        assert messages[1]["body"] == b"internal error"
    assert "internals" in caplog.text


async def a_coroutine(_: Any) -> Any:
    return pyscep.Failure()


# --- scope by scope -------------------------------------------------------------------


def call(
    app: Any,
    *,
    body: list[bytes] | None = None,
    receive: Callable[[], Awaitable[Message]] | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    **scope: Any,
) -> list[Message]:
    """One request, as an ASGI server would hand it over."""
    parts = list(body or [b""])
    sent: list[Message] = []

    async def next_part() -> Message:
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    full = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST" if body else "GET",
        "path": "/scep",
        "query_string": scope.pop("query", b""),
        "headers": headers,
        "client": ("192.0.2.7", 1),
    } | scope
    asyncio.run(app(full, receive or next_part, send))
    return sent


def test_capabilities(lab: Lab) -> None:
    messages = call(
        ScepApp(lab.server, lab.authority), query=b"operation=GetCACaps", http_version="2"
    )
    assert [message["type"] for message in messages] == [
        "http.response.start",
        "http.response.body",
    ]
    assert messages[0]["status"] == 200
    assert (b"content-type", b"text/plain") in messages[0]["headers"]
    assert (b"cache-control", b"no-store") in messages[0]["headers"]
    assert b"SCEPStandard\n" in messages[1]["body"]


def test_no_peer_address(lab: Lab) -> None:
    app = ScepApp(lab.server, lab.authority)
    assert call(app, query=b"operation=GetCACaps", client=None)[0]["status"] == 200


@pytest.mark.rule("H07")
def test_the_query_is_handed_over_raw() -> None:
    scope = {
        "method": "GET",
        "path": "/scep",
        "query_string": b"a=%2B+/=%0A",
        "headers": [(b"X-A", b"\xff")],
    }
    request = asgi.http_request(scope, b"")
    assert request.query == b"a=%2B+/=%0A"
    assert request.headers == (("x-a", "\xff"),)
    assert request.peer is None


def test_a_body_in_pieces(lab: Lab) -> None:
    messages = call(ScepApp(lab.server, lab.authority), body=[b"not", b" a", b" message"])
    assert messages[0]["status"] == 400


@pytest.mark.rule("H22")
def test_a_body_announced_as_too_long_is_not_read(lab: Lab) -> None:
    reads: list[int] = []

    async def receive() -> Message:
        reads.append(len(reads))
        return {"type": "http.disconnect"}

    messages = call(
        ScepApp(lab.server, lab.authority),
        method="POST",
        receive=receive,
        headers=((b"Content-Length", b"131073"),),
    )
    assert messages[0]["status"] == 413
    assert (b"connection", b"close") in messages[0]["headers"]
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert len(messages[1]["body"]) < 100
    assert len(reads) == 1, "one look for what is left, after the answer"


@pytest.mark.rule("H22")
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_body_that_turns_out_too_long(lab: Lab, version: str) -> None:
    limit = lab.server.limits.body_bytes
    pieces = [b"x" * limit, b"x"]
    messages = call(ScepApp(lab.server, lab.authority), body=pieces, http_version=version)
    assert messages[0]["status"] == 413
    fits = [b"x" * limit, b""]
    assert call(ScepApp(lab.server, lab.authority), body=fits)[0]["status"] == 400


def test_what_follows_a_refusal_is_dropped_within_bounds(lab: Lab) -> None:
    served: list[int] = []

    async def endless() -> Message:
        served.append(65_536)
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    messages = call(ScepApp(lab.server, lab.authority), method="POST", receive=endless)
    assert messages[0]["status"] == 413
    assert sum(served) < 2 * 1024 * 1024


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"\xb2", b"1e3"])
def test_a_content_length_that_is_none(lab: Lab, length: bytes) -> None:
    headers = ((b"content-length", length),)
    messages = call(ScepApp(lab.server, lab.authority), body=[b"x"], headers=headers)
    assert messages[0]["status"] == 400


def test_a_content_length_out_of_this_world() -> None:
    assert answer.declared_length("9" * 5000) == int("9" * 20)


def test_a_body_that_does_not_come(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_DRAIN_SECONDS", 0.05)

    async def receive() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    app = ScepApp(lab.server, lab.authority, body_seconds=0.05)
    messages = call(app, method="POST", receive=receive)
    assert messages[0]["status"] == 408


def test_a_client_that_hangs_up(lab: Lab) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    assert call(ScepApp(lab.server, lab.authority), method="POST", receive=receive) == []


@pytest.mark.rule("H22")
def test_a_long_query_is_414(lab: Lab) -> None:
    app = ScepApp(lab.server, lab.authority)
    query = b"operation=GetCACaps&message="
    assert call(app, query=query.ljust(65_000, b"A"))[0]["status"] == 200
    assert call(app, query=query.ljust(65_001, b"A"))[0]["status"] == 414


def test_other_methods_are_405(lab: Lab) -> None:
    messages = call(ScepApp(lab.server, lab.authority), method="PUT")
    assert messages[0]["status"] == 405
    assert (b"allow", b"GET, POST") in messages[0]["headers"]


def test_too_many_at_once_are_503(lab: Lab) -> None:
    app = ScepApp(lab.server, lab.authority, max_pending=0)
    for version in ("1.1", "2"):
        messages = call(app, query=b"operation=GetCACaps", http_version=version)
        assert messages[0]["status"] == 503
        assert (b"retry-after", b"5") in messages[0]["headers"]
    assert call(app, body=[b"x" * 10])[0]["status"] == 503


# --- a minimum time before a failure --------------------------------------------------


def elapsed(run: Callable[[], Any]) -> tuple[list[float], Any]:
    """What asyncio.sleep was asked for while running."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float, *rest: Any) -> Any:
        asked.append(seconds)
        return await sleep(0, *rest)

    asyncio.sleep = record  # type: ignore[assignment] # restored below
    try:
        return asked, run()
    finally:
        asyncio.sleep = sleep


def test_a_failure_waits_for_its_time(lab: Lab) -> None:
    """DECISIONS 9. What is asked of the clock is checked, not the clock."""
    app = ScepApp(lab.server, lab.authority, minimum_failure_seconds=SLOW)

    def refused() -> None:
        with pytest.raises(pyscep.EnrollmentRefused):
            enroll(lab, app, challenge="wrong")

    asked, _ = elapsed(refused)
    assert len(asked) == 1
    assert 0 <= asked[0] <= SLOW


def test_a_failure_before_the_authority_waits_too(lab: Lab) -> None:
    other = Lab()
    other.server = pyscep.Server(identity(keys.ca("CN=Another CA")))

    def refused() -> None:
        with pytest.raises(pyscep.ScepError):
            enroll(lab, two_faced(lab, other), challenge="whatever")

    asked, _ = elapsed(refused)
    assert len(asked) == 1


def two_faced(lab: Lab, other: Lab) -> Any:
    """Says it is one CA, and is another: PKIOperation can't be decrypted."""
    front = ScepApp(lab.server, lab.authority)
    back = ScepApp(other.server, other.authority, minimum_failure_seconds=SLOW)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        chosen = back if b"PKIOperation" in scope["query_string"] else front
        await chosen(scope, receive, send)

    return app


def test_nothing_else_waits(lab: Lab) -> None:
    app = ScepApp(lab.server, lab.authority, minimum_failure_seconds=SLOW)
    asked, result = elapsed(lambda: enroll(lab, app))
    assert (asked, type(result)) == ([], pyscep.Success)
    asked, _ = elapsed(lambda: call(app, body=[b"garbage"]))
    assert asked == []


# --- lifespan and websockets ----------------------------------------------------------


def test_lifespan(lab: Lab) -> None:
    app = ScepApp(lab.server, lab.authority)
    call(app, query=b"operation=GetCACaps")
    sent = lifespan(app)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert call(app, query=b"operation=GetCACaps")[0]["status"] == 200, "it starts again"
    app.close()
    app.close()


def lifespan(app: Any) -> list[Message]:
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return events.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app({"type": "lifespan"}, receive, send))
    return sent


def test_websockets_are_refused(lab: Lab) -> None:
    assert call(ScepApp(lab.server, lab.authority), type="websocket") == [
        {"type": "websocket.close", "code": 1000}
    ]


def test_an_unknown_scope(lab: Lab) -> None:
    with pytest.raises(RuntimeError, match="'mail'"):
        call(ScepApp(lab.server, lab.authority), type="mail")
