"""`pyscep serve`, `challenge`, `approve` and `inspect`: in this process, and as commands."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.adapters import http_server
from pyscep.ca import CertificateAuthority
from pyscep.cli import admin
from pyscep.cli.problems import Failed
from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected
from pyscep.site import serve
from pyscep.site.challenges import list_challenges
from tests import forge
from tests import forge_keys as keys
from tests.cli_lab import Lab, done, failed, invoke, lab
from tests.raw_http import free_port

ROOT = Path(__file__).resolve().parent.parent
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYSCEP_CHALLENGE", "PYSCEP_STATIC_CHALLENGE", "PYSCEP_CA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


# --- as a command of its own ----------------------------------------------------------


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "pyscep", *map(str, words)]


def run(*words: object, cwd: Path, expect: int = 0) -> str:
    """A command of pyscep in a process of its own; returns its standard output."""
    found = subprocess.run(
        command(*words),
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == expect, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    return found.stdout


@contextlib.contextmanager
def serving(*words: object, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pyscep serve`; yields the process and what it printed when it was ready."""
    process = subprocess.Popen(
        command("serve", "--port", "0", *words),
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, first_output(process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def first_output(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(("{", "Ready.")):
            return "".join(lines)
    raise AssertionError(f"it ended: {process.stderr.read() if process.stderr else ''}")


def openssl(*words: object) -> str:
    return subprocess.run(
        ["openssl", *map(str, words)], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_zero_configuration_from_end_to_end(tmp_path: Path) -> None:
    """serve, enroll, renew, crl, as a person types them; openssl judges the results."""
    with serving(cwd=tmp_path) as (process, text):
        url, fingerprint, challenge = (
            re.search(rf"^{name}: +(\S+)", text, re.M).group(1)  # type: ignore[union-attr]  # no match fails the test
            for name in ("SCEP URL", "Fingerprint", "Challenge")
        )
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/scep", url)
        assert (tmp_path / "pyscep-ca").stat().st_mode & 0o777 == 0o700
        trust = (url, "--fingerprint", fingerprint)
        (tmp_path / "word").write_text(challenge)
        run(
            "enroll", *trust, "--key", "k.pem", "--out", "c.pem", "--ca-out", "ca.pem",
            "--subject", "CN=me,O=Lab", "--challenge-file", "word", cwd=tmp_path,
        )  # fmt: skip
        run(
            "renew", *trust, "--certificate", "c.pem", "--key", "k.pem",
            "--new-key", "k2.pem", "--out", "c2.pem", cwd=tmp_path,
        )  # fmt: skip
        signed = ("--certificate", "c2.pem", "--key", "k2.pem")
        run("crl", *trust, *signed, "--out", "ca.crl", cwd=tmp_path)
        run("enroll", *trust, "--key", "k3.pem", "--out", "c3.pem", "--subject", "CN=x",
            "--challenge-file", "word", cwd=tmp_path, expect=3)  # fmt: skip
        process.send_signal(signal.SIGTERM)
        _, events = process.communicate(timeout=30)
    assert process.returncode == 0
    assert 'message="PKCS_REQ" status="SUCCESS"' in events
    assert 'message="RENEWAL_REQ" status="SUCCESS"' in events
    assert 'fail_info="badRequest"' in events
    assert challenge not in events
    ca = tmp_path / "ca.pem"
    verified = openssl(
        "verify", "-crl_check", "-CRLfile", tmp_path / "ca.crl", "-CAfile", ca,
        tmp_path / "c.pem", tmp_path / "c2.pem",
    )  # fmt: skip
    assert verified.count(": OK") == 2
    shown = openssl("x509", "-in", ca, "-noout", "-fingerprint", "-sha256")
    assert shown.partition("=")[2].strip().replace(":", "").lower() == fingerprint[7:]


@pytest.mark.slow
def test_serve_as_json_and_again_on_the_same_directory(tmp_path: Path) -> None:
    with serving("--json", "--policy", "legacy", "--directory", "d", cwd=tmp_path) as (_, text):
        first = json.loads(text)
    with serving("--json", "--directory", "d", "--allow-anyone", cwd=tmp_path) as (process, text):
        second = json.loads(text)
        run(
            "enroll", second["url"], "--fingerprint", first["fingerprint"], "--key", "k.pem",
            "--out", "c.pem", "--subject", "CN=me", "--challenge", "whatever", cwd=tmp_path,
        )  # fmt: skip
        process.send_signal(signal.SIGTERM)
        _, events = process.communicate(timeout=30)
    assert first["status"] == second["status"] == "ready"
    assert first["fingerprint"] == second["fingerprint"]
    assert first["challenge"] != second["challenge"] is None
    assert "single and triple DES" in first["warning"]
    assert "warning" not in second
    assert first["pid"] > 0
    records = [json.loads(line) for line in events.splitlines()]
    assert records[-1]["status"] == "SUCCESS"
    assert records[-1]["subject"] == "CN=me"


@pytest.mark.slow
def test_a_request_in_flight_is_finished(tmp_path: Path) -> None:
    """The first signal is gentle."""
    with serving("--json", cwd=tmp_path) as (process, text):
        port = int(json.loads(text)["url"].rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\n"
            connection.sendall(head + b"Content-Length: 7\r\nExpect: 100-continue\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # it waits for the body
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(b"garbage")
            assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.slow
def test_serve_on_a_port_that_is_taken(tmp_path: Path) -> None:
    with http_server.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        error = failed(2, "serve", "--directory", tmp_path / "d", "--port", port)
    assert error["code"] == "address"
    assert "in use" in error["message"]


# --- in this process ------------------------------------------------------------------


def test_what_serve_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(app: Any, sock: Any, on_ready: Any, connections: Any) -> None:
        assert isinstance(app.inner, serve.Site)
        assert connections.opened("192.0.2.1")
        assert sock.fileno() > 0
        on_ready()

    monkeypatch.setattr(serve, "serve", at_once)
    words = ("serve", "--directory", tmp_path / "d", "--port", "0")
    text = invoke(*words, "--policy", "compatible").stdout
    assert re.search(r"^SCEP URL: +http://127\.0\.0\.1:\d+/scep$", text, re.M)
    assert re.search(r"^Fingerprint: +sha256:[0-9a-f]{64}$", text, re.M)
    assert re.search(r"^Challenge: +[a-z2-7-]{46} +\(one device, one hour\)$", text, re.M)
    assert re.search(r"^Warning: .* SHA-1 signatures and triple DES", text, re.M)
    assert text.endswith("\nReady. Ctrl-C stops it.\n")
    assert "any (--allow-anyone)" in invoke(*words, "--allow-anyone").stdout


def test_serve_reports_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_request(app: Any, sock: Any, on_ready: Any, connections: Any) -> None:
        server = app.inner._scep._server
        server.receive(pyscep.HttpRequest(method="GET", path="/\x1b", peer="192.0.2.1"))
        on_ready()

    monkeypatch.setattr(serve, "serve", one_request)
    words = ("serve", "--directory", tmp_path / "d", "--port", "0")
    line = invoke(*words).stderr
    assert re.fullmatch(
        r'\S+Z?\+00:00 192\.0\.2\.1 rejected http_status="400" reason="the query .*"\n', line
    )
    found = invoke(*words, "--json")
    assert json.loads(found.stderr)["http_status"] == 400
    assert json.loads(found.stdout)["status"] == "ready"


def test_with_json_every_line_is_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the reason of a 503, which comes by way of the logging package."""

    def unavailable(app: Any, sock: Any, on_ready: Any, **_: Any) -> None:
        server = app.inner._scep._server
        server.receive(pyscep.HttpRequest(method="GET", path="/", peer="192.0.2.1"))
        logging.getLogger("pyscep").warning("the authority is unavailable: %s", "500\n{}")
        on_ready()

    monkeypatch.setattr(serve, "serve", unavailable)
    before = list(logging.getLogger().handlers)
    found = invoke("serve", "--directory", tmp_path / "d", "--port", "0", "--json")
    records = [json.loads(line) for line in found.stderr.splitlines()]
    assert [one["event"] for one in records] == ["rejected", "log"]
    assert records[1]["text"] == "the authority is unavailable: 500\\n{}"
    assert logging.getLogger().handlers == before


def test_certificates_name_the_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CDP and AIA: Windows refuses chains without. The address is kept for the commands, too."""
    base = "http://pki.example:8080"
    monkeypatch.setattr(http_server, "serve", lambda *_, on_ready, **__: on_ready())
    monkeypatch.setattr(serve, "serve", http_server.serve)
    words = ("serve", "--directory", tmp_path / "d", "--port", "0")
    assert "see --base-url" in invoke(*words).stdout
    assert f"CRL:          {base}/crl/ca.crl" in invoke(*words, "--base-url", f"{base}/").stdout
    assert done(*words)["crl"] == f"{base}/crl/ca.crl"
    with lab(tmp_path / "d", approval="manual") as running:
        assert invoke("enroll", *running.words(tmp_path)).exit_code == 5
        done("approve", "1", "--directory", tmp_path / "d")
        done("poll", tmp_path / "device.pem.pending.json")
        text = openssl("x509", "-noout", "-text", "-in", tmp_path / "device.pem")
        assert f"URI:{base}/crl/ca.crl" in text
        assert f"CA Issuers - URI:{base}/aia/ca.cer" in text
        (tmp_path / "ca.crl").write_bytes(running.ca.crl())
    crl = openssl("crl", "-inform", "DER", "-in", tmp_path / "ca.crl", "-noout", "-text")
    assert f"URI:{base}/crl/ca.crl" in crl, "the CRL says that it belongs there"


def test_the_base_url_of_a_port_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "serve", lambda *_, on_ready, **__: on_ready())
    port = free_port()
    words = ("serve", "--directory", tmp_path / "d", "--port", port, "--base-url", "auto")
    assert f"CRL:          http://127.0.0.1:{port}/crl/ca.crl\n" in invoke(*words).stdout


def test_misuse_of_the_base_url(tmp_path: Path) -> None:
    words = ("serve", "--directory", tmp_path / "d", "--port")
    assert "a --port that stays" in failed(2, *words, "0", "--base-url", "auto")["message"]
    for url in ("https://pki.example", "pki.example", "http://pki.example/?a"):
        assert "no URL like" in failed(2, *words, "0", "--base-url", url)["message"]
    assert not (tmp_path / "d").exists()
    assert serve.origin_of("::1", 80) == "http://[::1]:80"
    everywhere = "0.0.0.0"  # noqa: S104 - nobody listens
    assert serve.origin_of(everywhere, 80) == f"http://{socket.gethostname()}:80"


def test_serve_misuse(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("word")
    words = ("serve", "--directory", tmp_path / "d", "--port", "0")
    error = failed(2, *words, "--allow-anyone", "--static-challenge-file", word)
    assert "choose one" in error["message"]
    assert failed(2, *words, "--port", "65536")["code"] == "usage"
    assert not (tmp_path / "d").exists()
    error = failed(2, *words, "--host", "192.0.2.99")
    assert error["code"] == "address"


def test_a_key_file_that_others_can_read(tmp_path: Path) -> None:
    with CertificateAuthority.create(tmp_path / "d"):
        pass
    for key in (tmp_path / "d").glob("*.key"):
        key.chmod(0o644)
    error = failed(2, "serve", "--directory", tmp_path / "d", "--port", "0")
    assert error["code"] == "ca"
    assert "chmod" in error["message"]
    assert failed(2, "challenge", "--directory", tmp_path / "d")["code"] == "ca"


def test_a_static_challenge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def record(settings: Any) -> Any:
        seen.append(settings.static_challenge)
        assert settings.static_challenge not in repr(settings)
        raise ValueError("enough")

    monkeypatch.setattr(serve, "open_ca", record)
    word = tmp_path / "word"
    word.write_text("from a file\n")
    failed(2, "serve", "--static-challenge-file", word)
    monkeypatch.setenv("PYSCEP_STATIC_CHALLENGE", "from the environment")
    failed(2, "serve")
    assert seen == ["from a file", "from the environment"]


def test_enroll_with_a_static_challenge(tmp_path: Path) -> None:
    with lab(tmp_path / "d", static_challenge="one for all") as found:
        for name in ("a", "b"):
            done("enroll", *found.words(tmp_path, name, challenge="one for all"))
        found.enroll(tmp_path, "c")


def test_open_enrollment_still_asks_for_a_challenge_or_approval(tmp_path: Path) -> None:
    with lab(tmp_path / "d", allow_anyone=True) as found:
        done("enroll", *found.words(tmp_path, "a", challenge="made up"))
        words = found.words(tmp_path, "b", challenge="x")[:-2]
        assert invoke("enroll", *words, "--no-challenge").exit_code == 5
        assert [attempt.credential for attempt in found.ca.pending()] == ["none"]


def test_an_encrypted_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSCEP_CA_PASSWORD", "open sesame")
    with CertificateAuthority.create(tmp_path / "d", password=b"open sesame"):
        pass
    assert done("challenge", "--directory", tmp_path / "d")["challenges"]
    monkeypatch.setenv("PYSCEP_CA_PASSWORD", "wrong")
    assert failed(2, "challenge", "--directory", tmp_path / "d")["code"] == "ca"


# --- the site -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("serve") / "d", approval="manual") as found:
        yield found


@pytest.mark.rule("H05")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200),
        ("/scep", 200),
        ("/scep/", 200),
        ("/scep/pkiclient.exe", 200),
        ("/cgi-bin/pkiclient.exe", 200),
        ("/scepter", 404),
        ("/other", 404),
    ],
)
def test_which_paths_are_answered(manual: Lab, path: str, status: int) -> None:
    origin = manual.url.removesuffix("/scep")
    request = pyscep.HttpRequest(
        method="GET", origin=origin, path=path, query=b"operation=GetCACaps"
    )
    assert pyscep.urllib_sender()(request).status == status


@pytest.mark.parametrize(
    ("bound", "asked", "host"),
    [
        ("127.0.0.1", "localhost", "localhost"),
        ("0.0.0.0", "0.0.0.0", None),  # noqa: S104 - nothing is bound
        ("::1", "::1", "[::1]"),
        ("::", "::", None),
    ],
)
def test_the_url_that_is_shown(bound: str, asked: str, host: str | None) -> None:
    class Listener:
        def getsockname(self) -> tuple[str, int]:
            return bound, 81

    listener: Any = Listener()
    assert serve.url_of(listener, asked) == f"http://{host or socket.gethostname()}:81/scep"


def test_open_enrollment_has_nothing_to_hand_out() -> None:
    anyone = serve.AnyChallenge()
    with pytest.raises(ValueError, match="no challenges"):
        anyone.generate()
    notification: Any = None
    anyone.notify(notification)


TRANSACTION = pyscep.Transaction(transaction_id="a\nb", sender_nonce=b"")


def answered(outcome: Any) -> dict[str, Any]:
    event = RequestAnswered(
        message_type="PKCS_REQ",
        outcome=outcome,
        source="192.0.2.1",
        path="/scep",
        transaction=TRANSACTION,
        signer_fingerprint="00",
    )
    return serve.describe_event(event, MOMENT)


def test_events_as_values() -> None:
    head = {"time": "2026-01-02T03:04:05.000+00:00", "source": "192.0.2.1"}
    head |= {"transaction_id": "a\nb", "event": "answered", "message": "PKCS_REQ"}
    assert answered(pyscep.Pending()) == head | {"status": "PENDING"}
    assert answered(pyscep.Success(crls=(b"x",))) == head | {"status": "SUCCESS"}
    failure = pyscep.Failure(fail_info=pyscep.FailInfo.BAD_ALG, reason="why")
    assert answered(failure) == head | {
        "status": "FAILURE",
        "fail_info": "badAlg",
        "reason": "why",
    }
    assert answered(pyscep.Failure(fail_info=9))["fail_info"] == 9
    issued = answered(pyscep.Success(certificates=(keys.ca().certificate,)))
    assert issued["subject"] == "O=Lab,CN=Forge CA"
    assert issued["serial_number"] == f"{keys.ca().certificate.serial_number:x}"


def test_other_events_as_values() -> None:
    common: Any = {"source": None, "path": "/scep"}
    event: Any = AuthorityFailed(error=RuntimeError("secret"), transaction=TRANSACTION, **common)
    record = serve.describe_event(event)
    assert (record["event"], record["reason"]) == ("authority_failed", "RuntimeError")
    event = RequestRejected(error=pyscep.DecodeError("bad"), http_status=400, **common)
    record = serve.describe_event(event, MOMENT)
    assert record["transaction_id"] is None
    assert serve.describe_event(event)["time"] > record["time"]
    line = serve.event_line(record)
    assert line == '2026-01-02T03:04:05.000+00:00 - rejected http_status="400" reason="bad"'


@pytest.mark.rule("X11")
def test_an_event_is_one_line_whatever_the_peer_sent() -> None:
    record = answered(pyscep.Failure(reason="\x1b[31m\r\n" + "ü" * 1000))
    line = serve.event_line(record)
    assert line.isascii()
    assert line.isprintable()
    assert r'transaction_id="a\nb"' in line
    assert len(line) < 2500


# --- challenge, approve ---------------------------------------------------------------


def test_challenges_enroll(manual: Lab, tmp_path: Path) -> None:
    data = done("challenge", "--directory", manual.directory, "--count", "3")
    assert len(set(data["challenges"])) == 3
    assert data["minutes"] == 60
    text = invoke("challenge", "--directory", manual.directory, "--minutes", "5").stdout
    assert re.fullmatch(r"[a-z2-7-]{46}\n", text)
    found = invoke("enroll", *manual.words(tmp_path, "a", challenge=data["challenges"][0]))
    assert found.exit_code == 5
    for attempt in manual.ca.pending():
        manual.ca.deny(attempt.id)


def test_a_challenge_for_one_subject(manual: Lab, tmp_path: Path) -> None:
    words = ("challenge", "--directory", manual.directory)
    (word,) = done(*words, "--subject", "CN=a,O=Lab")["challenges"]
    assert invoke("enroll", *manual.words(tmp_path, "b", challenge=word)).exit_code == 3
    assert invoke("enroll", *manual.words(tmp_path, "a", challenge=word)).exit_code == 5
    for attempt in manual.ca.pending():
        manual.ca.deny(attempt.id)
    assert failed(2, *words, "--subject", "nonsense")["code"] == "usage"


def test_the_challenges_there_are(tmp_path: Path) -> None:
    words = ("challenge", "--directory", tmp_path / "d", "--list")
    with lab(tmp_path / "d") as found:
        assert invoke(*words).stdout == "There are no challenges.\n"
        spent = found.ca.new_challenge()
        done("enroll", *found.words(tmp_path, "a", challenge=spent))
        burnt = found.ca.new_challenge(lifetime=timedelta(hours=2))
        for _ in range(5):
            guess = burnt[:-1] + ("a" if burnt[-1] != "a" else "b")
            failed(3, "enroll", *found.words(tmp_path, "b", challenge=guess))
        fresh = found.ca.new_challenge(subject="CN=a", lifetime=timedelta(hours=3))
        listed = invoke(*words)
        rows = done(*words)["challenges"]
        later = list_challenges(found.ca, now=datetime.now(UTC) + timedelta(hours=2.5))
        last = list_challenges(found.ca, now=datetime.now(UTC) + timedelta(hours=3.5))
    by_id = {row["id"]: row for row in rows}
    states = {word.partition("-")[0]: state for word, state in ((spent, "spent"), (burnt, "burnt"))}
    assert {key: by_id[key]["state"] for key in states} == states
    assert by_id[fresh.partition("-")[0]]["state"] == "open"
    assert by_id[fresh.partition("-")[0]]["subject"] == "CN=a"
    assert [one.state for one in later if one.subject] == ["open"]
    assert [one.state for one in last if one.subject] == ["expired"]
    assert listed.stdout.splitlines()[0].split() == ["id", "state", "expires", "subject"]
    for word in (spent, burnt, fresh):
        assert word not in listed.stdout


@pytest.mark.parametrize("command", ["challenge", "approve"])
def test_no_ca_there(tmp_path: Path, command: str) -> None:
    error = failed(2, command, "--directory", tmp_path / "none")
    assert error["code"] == "ca"
    assert "pyscep serve --directory" in error["message"]
    assert not (tmp_path / "none").exists()


def test_approve(manual: Lab, tmp_path: Path) -> None:
    words = ("approve", "--directory", manual.directory)
    assert done(*words) == {"pending": []}
    assert invoke(*words).stdout == "Nothing is pending.\n"
    for name in ("a", "b"):
        found = invoke("enroll", *manual.words(tmp_path, name), "--dns", f"{name}.example")
        assert found.exit_code == 5
    rows = done(*words)["pending"]
    assert [(row["subject"], row["sans"]) for row in rows] == [
        ("CN=a,O=Lab", ["dns:a.example"]),
        ("CN=b,O=Lab", ["dns:b.example"]),
    ]
    assert rows[0]["source"] == "127.0.0.1"
    head, *lines = invoke(*words).stdout.splitlines()
    assert head.split()[:2] == ["id", "since"]
    assert "CN=a,O=Lab" in lines[0]
    first, second = (row["id"] for row in rows)
    error = failed(2, *words, first, 999_999)
    assert "nothing was done" in error["message"]
    (decided,) = done(*words, first)["decided"]
    assert decided["decision"] == "approved"
    got = done("poll", tmp_path / "a.pem.pending.json")
    assert got["serial_number"] == decided["serial_number"]
    text = invoke(*words, second, "--deny", "--reason", "no").stdout
    assert text == f"{second}: denied\n"
    assert failed(3, "poll", tmp_path / "b.pem.pending.json")["code"] == "refused"


def test_approve_misuse(manual: Lab) -> None:
    words = ("approve", "--directory", manual.directory)
    assert "which request" in failed(2, *words, "--deny")["message"]
    assert "--deny" in failed(2, *words, "1", "--reason", "x")["message"]
    assert failed(2, *words, "one")["code"] == "usage"


def test_decided_by_somebody_else_meanwhile() -> None:
    class Gone:
        def approve(self, _: int) -> Any:
            raise LookupError("no attempt 7 is pending")

    ca: Any = Gone()
    with pytest.raises(Failed, match="no attempt 7"):
        admin._decide(ca, 7, deny=False, reason="")


@pytest.mark.rule("X11")
def test_a_table_shows_what_is_not_printable() -> None:
    text = admin.table(("id", "name"), [("1", "a\x1b[2J\u202e"), ("22", "b")])
    assert text == "id  name\n1   a\\x1b[2J\\u202e\n22  b"


# --- inspect --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with request.der, ca.key and ca.pem, of one enrollment."""
    home = tmp_path_factory.mktemp("inspect")
    (home / "request.der").write_bytes(forge.pkcs_req(keys.ca(), challenge="hush").build())
    (home / "ca.key").write_bytes(keys.key_pem(keys.ca().key))
    (home / "ca.pem").write_bytes(keys.ca().certificate.public_bytes(Encoding.PEM))
    return home


def test_inspect(message: Path) -> None:
    data = done("inspect", message / "request.der")
    assert data["kind"] == "pkiMessage"
    raw = (message / "request.der").read_bytes()
    assert done("inspect", "-", input=raw) == data
    words = ("inspect", message / "request.der", "--key", message / "ca.key")
    words += ("--certificate", message / "ca.pem")
    opened = invoke(*words, "--json").stdout
    assert "CN=device" in json.dumps(json.loads(opened))
    assert "hush" in opened  # a machine with the key gets what the key opens
    assert "hush" not in invoke(*words).stdout
    assert "hush" in invoke(*words, "--show-secrets").stdout


def test_inspect_for_people(message: Path) -> None:
    words = ("inspect", message / "request.der", "--key", message / "ca.key")
    text = invoke(*words).stdout
    assert text.startswith("This is: pkiMessage\n")
    assert "hush" not in text
    assert "hush" in invoke(*words, "--show-secrets").stdout


def test_inspect_misuse(message: Path, tmp_path: Path) -> None:
    assert failed(2, "inspect", message / "nothing")["code"] == "file"
    words = ("inspect", message / "request.der", "--key", message / "request.der")
    assert failed(2, *words)["code"] == "file"
    (tmp_path / "noise").write_bytes(b"\x1b[31mnoise")
    error = failed(4, "inspect", tmp_path / "noise")
    assert error["code"] == "decode"
