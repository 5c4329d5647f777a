"""Webhooks over real sockets: asked about challenges, or asked for them."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import Notification, Profile
from pyscep.http import HttpRequest
from pyscep.integrations import web as web_module
from pyscep.integrations.web import ServiceUnavailable, Web, check_url
from pyscep.integrations.webhook import ChallengeWebhook, Webhook, webhook_challenges
from tests import forge_keys as keys
from tests.ca_setting import Setting
from tests.integration_lab import asks, store_in

SECRET = b"0123456789abcdef"
Reply = tuple[int, bytes]


class Receiver:
    """A webhook receiver: answers in turn, the last answer for ever."""

    def __init__(self, *replies: Reply | Callable[[Any], Reply] | None) -> None:
        self.replies = list(replies)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def answer(self, body: bytes, headers: dict[str, str]) -> Reply | None:
        self.bodies.append(json.loads(body))
        self.headers.append(headers | {"body": body.decode()})
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply(self.bodies[-1]) if callable(reply) else reply


@contextlib.contextmanager
def listening(receiver: Receiver) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = receiver.answer(body, headers)
            if reply is None:  # hangs up
                self.close_connection = True
                return
            status, content = reply
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            if status in (302, 307):
                self.send_header("location", f"{receiver.url}/elsewhere")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(10)


ALLOW: Reply = (200, b'{"allow": true, "data": {"role": "printer"}}')
DENY: Reply = (200, b'{"allow": false, "error": {"code": "no", "message": "no"}}')
BROKEN: Reply = (500, b"oops")


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(timeout=2.0) as made:
        yield made


def setting_for(
    path: Path, web: Web, *urls: str, notifying: tuple[str, ...] = (), **more: Any
) -> Setting:
    waits: list[float] = []
    provider = webhook_challenges(
        [Webhook(url=url, secret=SECRET, id="hook-1") for url in urls],
        store_in(path),
        web=web,
        notifying=[Webhook(url=url) for url in notifying],
        provisioner="devices",
        sleep=waits.append,
    )
    setting = Setting(path, challenge=provider, **more)
    setting.waits = waits  # type: ignore[attr-defined]  # the test's own list
    return setting


def test_the_shape_of_the_question(tmp_path: Path, web: Web) -> None:
    with listening(Receiver(ALLOW)) as receiver:
        setting = setting_for(tmp_path, web, receiver.url)
        first = setting.certificate("the word", transaction_id="42")
        (body,), (headers,) = receiver.bodies, receiver.headers
        csr = pyscep.pkcs10.read(base64.b64decode(body["x509CertificateRequest"]["raw"]))
        assert csr.challenge_password == body["scepChallenge"] == "the word"
        assert body["scepTransactionID"] == "42"
        assert body["provisionerName"] == "devices"
        assert body["timestamp"].endswith("Z")
        assert headers["content-type"] == "application/json"
        assert headers["x-smallstep-webhook-id"] == "hook-1"
        expected = hmac.digest(SECRET, headers["body"].encode(), "sha256").hex()
        assert headers["x-smallstep-signature"] == expected
        assert setting.certificate("the word") == first
        assert len(receiver.bodies) == 1
        other = keys.rsa_key("other device")
        setting.refuses(lambda: setting.enroll("the word", key=other), "spent for another key")


def test_the_first_that_allows_counts(tmp_path: Path, web: Web) -> None:
    with (
        listening(Receiver(DENY)) as one,
        listening(Receiver(BROKEN)) as two,
        listening(Receiver(ALLOW)) as three,
    ):
        setting = setting_for(tmp_path, web, one.url, two.url, three.url)
        setting.certificate("word")
        assert [len(each.bodies) for each in (one, two, three)] == [1, 2, 1]


def test_a_refusal(tmp_path: Path, web: Web) -> None:
    with listening(Receiver(DENY)) as receiver:
        setting = setting_for(tmp_path, web, receiver.url)
        setting.refuses(lambda: setting.enroll("word"), "the policy module refused")
        assert len(receiver.bodies) == 1, "a verdict is final"


@pytest.mark.parametrize(
    ("reply", "calls"),
    [
        (BROKEN, 2),
        (None, 2),
        ((503, b'{"allow": true}'), 2),
        ((404, b'{"allow": true}'), 1),
        ((302, b'{"allow": true}'), 1),
        ((200, b""), 1),
        ((200, b"allow"), 1),
        ((200, b"true"), 1),
        ((200, b'["allow"]'), 1),
        ((200, b"[" * 100_000), 1),
        ((200, b'{"allow": true' + b" " * 1_100_000 + b"}"), 2),
    ],
)
def test_no_verdict_is_503(tmp_path: Path, web: Web, reply: Any, calls: int) -> None:
    with listening(Receiver(reply)) as receiver:
        setting = setting_for(tmp_path, web, receiver.url)
        with pytest.raises(pyscep.TransportError) as caught:
            setting.enroll("word")
        assert caught.value.status == 503
        assert setting.serials == []
        assert len(receiver.bodies) == calls


@pytest.mark.parametrize("body", [b"{}", b'{"allow": 1}', b'{"allow": "true"}', b'{"allow": null}'])
def test_only_true_allows(tmp_path: Path, web: Web, body: bytes) -> None:
    with listening(Receiver((200, body))) as receiver:
        setting = setting_for(tmp_path, web, receiver.url)
        setting.refuses(lambda: setting.enroll("word"), "refused")


def test_a_second_attempt_may_succeed(tmp_path: Path, web: Web) -> None:
    with listening(Receiver(BROKEN, ALLOW)) as receiver:
        setting = setting_for(tmp_path, web, receiver.url)
        setting.certificate("word")
        assert setting.waits == [1.0]  # type: ignore[attr-defined]  # the test's own list


def test_nobody_is_there(tmp_path: Path, web: Web) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    setting = setting_for(tmp_path, web, url)
    with pytest.raises(pyscep.TransportError) as caught:
        setting.enroll("word")
    assert caught.value.status == 503


def test_silence_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, Web(timeout=0.1) as web:
        provider = webhook_challenges(
            [Webhook(url=f"http://127.0.0.1:{sock.getsockname()[1]}/")],
            store_in(tmp_path), web=web, sleep=lambda seconds: None)
        with pytest.raises(ServiceUnavailable, match="ReadTimeout"):
            provider.verify(asks("word"))


def test_an_answer_in_drops_ends(tmp_path: Path) -> None:
    times = iter((0.0, 2.5))
    with (
        listening(Receiver(ALLOW)) as receiver,
        Web(timeout=2.0, monotonic=lambda: next(times)) as web,
        pytest.raises(ServiceUnavailable, match="takes too long"),
    ):
        web.send("POST", receiver.url, headers={}, body=b"{}")


def test_notifying(tmp_path: Path, web: Web) -> None:
    with listening(Receiver(ALLOW)) as receiver, listening(Receiver(BROKEN)) as told:
        setting = setting_for(tmp_path, web, receiver.url, notifying=(told.url,))
        with pytest.raises(pyscep.TransportError):
            setting.enroll("word")
        assert len(setting.serials) == 1, "stored, and kept back"
        told.replies[:] = [ALLOW]
        certificate = setting.certificate("word", transaction_id="5")
        body = told.bodies[-1]
        assert base64.b64decode(body["x509Certificate"]["raw"]) == certificate.public_bytes(
            Encoding.DER)
        assert body["scepChallenge"] == "word"
        assert body["scepTransactionID"] == "5"
        assert "x-smallstep-signature" not in told.headers[-1]


def test_notifying_of_refusals(tmp_path: Path, web: Web) -> None:
    with listening(Receiver(ALLOW)) as receiver, listening(Receiver(BROKEN)) as told:
        setting = setting_for(
            tmp_path, web, receiver.url, notifying=(told.url,),
            profiles=Profile(rsa_bits=(3072, 4096)))
        setting.refuses(lambda: setting.enroll("word"), "RSA key of 2048 bits")
        assert told.bodies[-1]["scepErrorCode"] == 2
        assert "3072" in told.bodies[-1]["scepErrorDescription"]
        told.replies[:] = [ALLOW]
        provider = webhook_challenges(
            [Webhook(url=receiver.url)], store_in(tmp_path), web=web,
            notifying=[Webhook(url=told.url)])
        provider.notify(Notification(credential="x", outcome="denied", transaction_id="1"))
        assert told.bodies[-1]["scepErrorDescription"] == "denied"
        assert "x509CertificateRequest" not in told.bodies[-1]


def test_authorizations() -> None:
    url = "https://hooks.example/"
    bearer = Webhook(url=url, bearer_token="t0ken")
    assert bearer.headers(b"")["authorization"] == "Bearer t0ken"
    basic = Webhook(url=url, basic=("ada", "pw"))
    assert basic.headers(b"")["authorization"] == "Basic " + base64.b64encode(b"ada:pw").decode()
    for hook in (bearer, basic, Webhook(url=url, secret=b"s3cret")):
        assert not [word for word in ("t0ken", "pw", "s3cret") if word in repr(hook)]
    with pytest.raises(ValueError, match="either"):
        Webhook(url=url, bearer_token="a", basic=("a", "b"))


@pytest.mark.parametrize(
    "url", ["http://hooks.example/", "ftp://127.0.0.1/", "https:///x", "hooks", "http://127.0.0.1.example/"]
)
def test_no_secret_in_the_clear(url: str, web: Web) -> None:
    with pytest.raises(ValueError, match="an https URL is needed"):
        Webhook(url=url)
    with pytest.raises(ValueError, match="an https URL is needed"):
        web.send("GET", url, headers={})
    check_url("http://[::1]:8080/")


def test_redirects_are_not_followed(tmp_path: Path, web: Web) -> None:
    """A challenge must not go where somebody else says."""
    with listening(Receiver((307, b""), ALLOW)) as receiver:
        assert web.send("POST", receiver.url, headers={}, body=b"{}").status == 307
        assert len(receiver.bodies) == 1


def test_nobody_to_ask(tmp_path: Path, web: Web) -> None:
    with pytest.raises(ValueError, match="at least one webhook"):
        webhook_challenges([], store_in(tmp_path), web=web)


def test_a_certificate_to_show(tmp_path: Path) -> None:
    """mutual TLS: the files are read when the client is made."""
    with pytest.raises(OSError, match="No such file"):
        Web(certificate=(str(tmp_path / "none.pem"), str(tmp_path / "none.key")))
    assert web_module.TIMEOUT == 10.0


# --- asked for challenges -------------------------------------------------------------

EVENT = {
    "webhook": {
        "webhookEvent": "SCEPChallenge", "id": 1, "eventTimestamp": 1_772_366_400,
        "name": "SCEPChallenge",
    },
    "event": {
        "scepServerUrl": "https://ca.example/scep",
        "payloadIdentifier": "3B1F",
        "payloadTypes": ["com.apple.security.scep"],
    },
}
BASIC = ("authorization", "Basic " + base64.b64encode(b"jamf:pa:ss").decode())


def post(body: object, *headers: tuple[str, str]) -> HttpRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpRequest(method="POST", path="/challenge", headers=headers, body=data)


def test_jamf_gets_a_challenge_for_one_device(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    events = []

    def generate(event: Any) -> str:
        events.append(event)
        return setting.ca.new_challenge()

    hook = ChallengeWebhook(generate, user="jamf", password="pa:ss")
    answer = hook.handle(post(EVENT, BASIC))
    assert (answer.status, answer.media_type) == (200, "text/plain")
    assert answer.header("cache-control") == "no-store"
    assert events[0]["payloadIdentifier"] == "3B1F"
    word = answer.body.decode()
    setting.certificate(word)
    other = keys.rsa_key("other device")
    setting.refuses(lambda: setting.enroll(word, key=other), "spent")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HttpRequest(method="GET", headers=(BASIC,)), 405),
        (post(EVENT), 401),
        (post(EVENT, ("authorization", "Basic amFtZjp4")), 401),
        (post(EVENT, ("authorization", "Basic \udc80")), 401),
        (post(b"x" * 70_000, BASIC), 413),
        (post(b"{", BASIC), 400),
        (post(b"[" * 60_000, BASIC), 400),
        (post([], BASIC), 400),
        (post({"webhook": {"webhookEvent": "ComputerAdded"}, "event": {}}, BASIC), 400),
        (post({"webhook": {"webhookEvent": "SCEPChallenge"}, "event": []}, BASIC), 400),
    ],
)
def test_no_challenge_for_others(request_: HttpRequest, status: int) -> None:
    hook = ChallengeWebhook(lambda event: pytest.fail("made"), user="jamf", password="pa:ss")
    answer = hook.handle(request_)
    assert answer.status == status
    assert (answer.header("www-authenticate") is not None) == (status == 401)


def test_a_full_cache_is_503() -> None:
    def generate(event: Any) -> str:
        raise ValueError("the password cache is full")

    hook = ChallengeWebhook(generate, user="jamf", password="pa:ss")
    assert hook.handle(post(EVENT, BASIC)).status == 503
    for user, password in (("", "x"), ("x", "")):
        with pytest.raises(ValueError, match="give user and password"):
            ChallengeWebhook(generate, user=user, password=password)
