"""The client commands against a CA on a real port."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import pyscep
from pyscep.adapters.asgi import ScepApp
from pyscep.ca import CertificateAuthority, Profile, RenewalRules
from pyscep.cli import enroll, outcome, query, session
from pyscep.cli.problems import Failed
from pyscep.cli.session import Output, ServerOptions
from pyscep.http import HttpResponse
from pyscep.site import serve
from tests import forge_keys as keys
from tests.cli_lab import Lab, done, failed, invoke, lab, listening


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("ca") / "d") as found:
        yield found


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("manual") / "d", approval="manual", topology="ca") as found:
        yield found


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYSCEP_CHALLENGE", "PYSCEP_KEY_PASSWORD", "PYSCEP_CA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def device(running: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with device.key, device.pem and ca.pem."""
    home = tmp_path_factory.mktemp("device")
    running.enroll(home, "device", "--ca-out", home / "ca.pem", "--dns", "device.example")
    return home


def verify(*words: object) -> None:
    """An independent look at the chain."""
    found = subprocess.run(
        ["openssl", "verify", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


# --- enroll ---------------------------------------------------------------------------


def test_enroll(running: Lab, tmp_path: Path) -> None:
    data = running.enroll(
        tmp_path, "device", "--ca-out", tmp_path / "ca.pem", "--dns", "a.example",
        "--email", "a@example.org", "--ip", "192.0.2.1", "--ip", "2001:db8::1", "--uri", "urn:x:y",
    )  # fmt: skip
    assert data["status"] == "success"
    assert data["subject"] == "CN=device,O=Lab"
    assert data["issuer"] == "CN=pyscep CA"
    assert data["ca_file"] == str(tmp_path / "ca.pem")
    verify("-CAfile", tmp_path / "ca.pem", tmp_path / "device.pem")
    certificate = x509.load_pem_x509_certificate((tmp_path / "device.pem").read_bytes())
    assert data["fingerprint"] == session.fingerprint(certificate)
    assert data["serial_number"] == f"{certificate.serial_number:x}"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(names)) == 5
    assert stat.S_IMODE((tmp_path / "device.key").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["ca.pem", "device.key", "device.pem"]


def test_enroll_for_people(running: Lab, tmp_path: Path) -> None:
    found = invoke("enroll", *running.words(tmp_path), "--ca-out", tmp_path / "ca.pem")
    assert found.exit_code == 0
    assert found.stdout.startswith(f"Certificate: {tmp_path}/device.pem\n")
    assert found.stdout.endswith(f"CA certificates: {tmp_path}/ca.pem\n")
    assert "made a new 2048-bit RSA key" in found.stderr


def test_the_same_command_again_gets_the_same_certificate(running: Lab, tmp_path: Path) -> None:
    """After a lost answer: same key, same challenge."""
    word = running.ca.new_challenge()
    first = done("enroll", *running.words(tmp_path, challenge=word))
    (tmp_path / "device.pem").unlink()
    again = done("enroll", *running.words(tmp_path, challenge=word))
    assert again["serial_number"] == first["serial_number"]


@pytest.mark.parametrize("method", ["get", "post"])
def test_enroll_by_method(running: Lab, tmp_path: Path, method: str) -> None:
    running.enroll(tmp_path, "device", "--method", method)


def test_a_wrong_challenge_is_exit_code_3(running: Lab, tmp_path: Path) -> None:
    error = failed(3, "enroll", *running.words(tmp_path, challenge="wrong"))
    assert error["code"] == "refused"
    assert error["fail_info"] == "badRequest"
    assert (tmp_path / "device.key").exists()
    assert not (tmp_path / "device.pem").exists()


def test_a_wrong_fingerprint_is_exit_code_4(running: Lab, tmp_path: Path) -> None:
    error = failed(4, "enroll", *running.words(tmp_path), "--fingerprint", "00" * 32)
    assert error["code"] == "signature"
    assert [type(event).__name__ for event in running.events if event.source is None] == []


def test_nobody_there_is_exit_code_1(running: Lab, tmp_path: Path) -> None:
    words = list(running.words(tmp_path))
    words[0] = "http://127.0.0.1:1/scep"
    error = failed(1, "enroll", *words)
    assert (error["code"], error["status"]) == ("transport", None)


@pytest.mark.rule("X02")
def test_no_trust_is_exit_code_2(running: Lab, tmp_path: Path) -> None:
    words = list(running.words(tmp_path))
    del words[1:3]
    error = failed(2, "enroll", *words)
    assert "--fingerprint" in error["message"]
    assert os.listdir(tmp_path) == [], "no key was made"
    assert done("enroll", *words, "--trust-on-first-use")["status"] == "success"


def test_the_ra_by_its_fingerprint(running: Lab, device: Path, tmp_path: Path) -> None:
    agent = running.ca.recipient
    assert agent is not None
    wrong = x509.load_pem_x509_certificate((device / "device.pem").read_bytes())
    words = running.words(tmp_path)
    for other in (wrong, running.ca.issuer.certificate):
        error = failed(4, "enroll", *words, "--ra-fingerprint", session.fingerprint(other))
        assert error["code"] == "protocol"
    assert failed(2, "enroll", *words, "--ra-fingerprint", "abc")["code"] == "usage"
    named = [
        word
        for one in (wrong, agent.certificate)
        for word in ("--ra-fingerprint", session.fingerprint(one))
    ]
    assert done("enroll", *words, *named)["status"] == "success"
    renewal = (
        "renew", *running.pinned, "--certificate", tmp_path / "device.pem",
        "--key", tmp_path / "device.key", "--same-key", "--out", tmp_path / "renewed.pem",
    )  # fmt: skip
    failed(4, *renewal, "--ra-fingerprint", session.fingerprint(wrong))
    assert done(*renewal, *named)["status"] == "success"


def test_a_known_ca_certificate(running: Lab, device: Path, tmp_path: Path) -> None:
    words = list(running.words(tmp_path))
    words[1:3] = ["--ca-certificate", device / "ca.pem"]
    assert done("enroll", *words)["status"] == "success"


def test_files_are_not_overwritten(running: Lab, tmp_path: Path) -> None:
    (tmp_path / "device.pem").write_text("precious")
    error = failed(2, "enroll", *running.words(tmp_path))
    assert error["code"] == "file"
    assert "exists already" in error["message"]
    assert os.listdir(tmp_path) == ["device.pem"], "no key was made"
    running.enroll(tmp_path, "device", "--force")
    assert "CERTIFICATE" in (tmp_path / "device.pem").read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--subject", "nonsense"), "is not a name like"),
        (("--subject", ""), "give --subject"),
        (("--ip", "1.2.3"), "a name for the certificate"),
        (("--dns", "bücher.example"), "a name for the certificate"),
        (("--challenge-file", "x"), "not both"),
        (("--out", "/nonexistent/x"), "No such directory"),
        (("--ca-certificate", "/nonexistent/x"), "No such file"),
        (("--tls-ca", "/nonexistent/x"), "No such file"),
        (("--key-size", "1024"), "1024"),
        (("--timeout", "0"), "0"),
        (("--fingerprint", "00"), "SHA-256"),
    ],
)
def test_misuse(running: Lab, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    error = failed(2, "enroll", *running.words(tmp_path), *words)
    assert complaint in error["message"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["ftp://x/", "nonsense", "http://127.0.0.1:1/scep?x", "http://u@x/"]
)
def test_a_url_that_is_none(url: str) -> None:
    assert failed(2, "caps", url)["code"] == "usage"


def test_a_subject_that_cannot_be_encoded(running: Lab, tmp_path: Path) -> None:
    error = failed(2, "enroll", *running.words(tmp_path), "--subject", "C=Germany")
    assert error["code"] == "usage"


def test_a_challenge_that_is_too_long(running: Lab, device: Path, tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("x" * 40_000)
    words = (*without_challenge(running, tmp_path), "--challenge-file", word)
    assert "the request can't be made" in failed(2, "enroll", *words)["message"]
    words = (*renew_words(running, device, tmp_path), "--same-key", "--challenge-file", word)
    assert "the request can't be made" in failed(2, "renew", *words)["message"]


def test_a_key_that_is_no_rsa_key(running: Lab, tmp_path: Path) -> None:
    key = tmp_path / "device.key"
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)],
        check=True,
        capture_output=True,
    )
    assert "RSA" in failed(2, "enroll", *running.words(tmp_path))["message"]


def test_tls_roots_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "roots").write_text("nothing")
    error = failed(2, "caps", "https://127.0.0.1:1/", "--tls-ca", tmp_path / "roots")
    assert "no certificates" in error["message"]


# --- challenges -----------------------------------------------------------------------


def without_challenge(running: Lab, home: Path) -> tuple[Any, ...]:
    words = running.words(home)
    return words[:-2]


def test_a_challenge_from_a_file(running: Lab, tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text(running.ca.new_challenge() + "\n")
    done("enroll", *without_challenge(running, tmp_path), "--challenge-file", word)


def test_a_challenge_from_standard_input(running: Lab, tmp_path: Path) -> None:
    words = (*without_challenge(running, tmp_path), "--challenge-file", "-")
    done("enroll", *words, input=running.ca.new_challenge())


def test_a_challenge_from_the_environment(
    running: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSCEP_CHALLENGE", running.ca.new_challenge())
    done("enroll", *without_challenge(running, tmp_path))


def test_a_challenge_from_the_person_there(
    running: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = types.SimpleNamespace(stdin=types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(enroll, "sys", terminal)
    word = running.ca.new_challenge()
    found = invoke("enroll", *without_challenge(running, tmp_path), input=f"{word}\n")
    assert found.exit_code == 0
    assert "Challenge:" in found.output
    assert word not in found.output


def test_no_challenge_and_nobody_to_ask(running: Lab, tmp_path: Path) -> None:
    error = failed(2, "enroll", *without_challenge(running, tmp_path))
    assert "--challenge-file" in error["message"]
    failed(3, "enroll", *without_challenge(running, tmp_path), "--no-challenge")


@pytest.mark.rule("X05")
def test_the_challenge_is_printed_nowhere(running: Lab, tmp_path: Path) -> None:
    word = running.ca.new_challenge()
    found = invoke("enroll", *running.words(tmp_path, challenge=word))
    again = invoke("enroll", *running.words(tmp_path, "b", challenge=word))
    assert again.exit_code == 3
    for text in (found.output, again.output, str(running.events)):
        assert word not in text
    assert word not in (tmp_path / "device.key").read_text()


# --- pending, poll --------------------------------------------------------------------


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were asked for; none is waited."""
    asked: list[float] = []
    monkeypatch.setattr(outcome, "time", types.SimpleNamespace(sleep=asked.append))
    return asked


def pending(manual: Lab, home: Path, *words: object) -> tuple[Path, Any]:
    """Enroll, and get as far as PENDING."""
    found = invoke("enroll", *manual.words(home), "--json", *words)
    assert found.exit_code == 5, found.output
    assert found.stderr == ""
    data = json.loads(found.stdout)
    assert data["status"] == "pending"
    return Path(data["state_file"]), data


def approve(manual: Lab) -> None:
    for attempt in manual.ca.pending():
        manual.ca.approve(attempt.id)


def test_pending_is_exit_code_5_and_poll_goes_on(manual: Lab, tmp_path: Path) -> None:
    state, data = pending(manual, tmp_path)
    assert state == tmp_path / "device.pem.pending.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    again = invoke("poll", state, "--json")
    assert again.exit_code == 5
    assert json.loads(again.stdout) == data
    approve(manual)
    got = done("poll", state)
    assert got["certificate_file"] == str(tmp_path / "device.pem")
    assert sorted(os.listdir(tmp_path)) == ["device.key", "device.pem"]


def test_pending_for_people(manual: Lab, tmp_path: Path, slept: list[float]) -> None:
    words = ("--max-polls", "2", "--poll-interval", "60", "--state", tmp_path / "state")
    found = invoke("enroll", *manual.words(tmp_path), *words)
    assert found.exit_code == 5
    assert found.stdout == (
        f"Pending: the CA has yet to decide. Go on with:\n  pyscep poll {tmp_path}/state\n"
    )
    notes = found.stderr.splitlines()
    assert [note.partition(" in ")[0] for note in notes[1:]] == [
        "pending; poll 1 of 2",
        "pending; poll 2 of 2",
    ]
    assert len(slept) == 2
    assert all(60 <= seconds <= 66 for seconds in slept)
    approve(manual)
    assert invoke("poll", tmp_path / "state").exit_code == 0


def test_polling_until_it_is_granted(
    manual: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_: float) -> None:
        if manual.ca.pending():
            approve(manual)

    monkeypatch.setattr(outcome, "time", types.SimpleNamespace(sleep=sleep))
    data = done("enroll", *manual.words(tmp_path), "--max-polls", "3")
    assert data["status"] == "success"
    assert not (tmp_path / "device.pem.pending.json").exists()


def test_a_denied_request_is_exit_code_3(manual: Lab, tmp_path: Path) -> None:
    state, _ = pending(manual, tmp_path)
    for attempt in manual.ca.pending():
        manual.ca.deny(attempt.id, "no")
    failed(3, "poll", state)
    assert not state.exists(), "there is nothing left to ask for"


def test_a_pending_request_is_not_forgotten_by_accident(manual: Lab, tmp_path: Path) -> None:
    state, _ = pending(manual, tmp_path)
    error = failed(2, "enroll", *manual.words(tmp_path))
    assert f"pyscep poll {state}" in error["message"]
    pending(manual, tmp_path, "--force")
    for attempt in manual.ca.pending():
        manual.ca.deny(attempt.id)


def test_a_poll_without_an_answer_keeps_the_state(
    manual: Lab, tmp_path: Path, slept: list[float]
) -> None:
    state, _ = pending(manual, tmp_path)
    data = json.loads(state.read_text())
    url = data["server"]["url"]
    data["server"]["url"] = "http://127.0.0.1:1/scep"
    state.write_text(json.dumps(data))
    found = invoke("poll", state, "--max-polls", "2")
    assert found.exit_code == 1
    assert found.stderr.startswith("poll 1: no answer from")
    assert len(slept) == 1
    data["server"]["url"] = url
    state.write_text(json.dumps(data))
    approve(manual)
    done("poll", state)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', '{"format": "pyscep-pending-1", "server": 1}']
)
def test_a_state_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").write_text(text)
    error = failed(2, "poll", tmp_path / "state")
    assert "not a state file" in error["message"]


def test_a_state_file_that_was_changed(manual: Lab, tmp_path: Path) -> None:
    state, _ = pending(manual, tmp_path)
    for change in ({"server": {"nonsense": 1}}, {"pending": {}}):
        data = json.loads(state.read_text()) | change
        (tmp_path / "changed").write_text(json.dumps(data))
        assert failed(2, "poll", tmp_path / "changed")["code"] == "file"
    manual.ca.deny(manual.ca.pending()[0].id)


def test_retry_after_makes_the_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    polling = outcome.Polling(interval=10.0, max_polls=1)
    assert 10 <= outcome._delay(polling, None) <= 11
    assert 10 <= outcome._delay(polling, 5.0) <= 11
    assert 120 <= outcome._delay(polling, 120.0) <= 132
    assert outcome._delay(polling, 1e9) == 3600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("30", 30.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("Fri, 31 Dec 1999", None),
        ("²", None),
    ],
)
def test_retry_after_is_kept_from_the_last_answer(value: str | None, seconds: float | None) -> None:
    options = ServerOptions(url="http://127.0.0.1:1/", trust_on_first_use=True)
    talk = session.Session(options)
    headers = () if value is None else (("retry-after", value),)
    talk._send = lambda _: HttpResponse(status=200, headers=headers)
    talk._exchange(pyscep.HttpRequest(method="GET"))
    assert talk.retry_after == seconds


def test_a_busy_server_is_asked_again(
    manual: Lab, tmp_path: Path, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After is no verdict (DECISIONS 8)."""
    state, _ = pending(manual, tmp_path)
    approve(manual)
    real, answers = (
        session.urllib_sender,
        [HttpResponse(status=503, headers=(("retry-after", "90"),))],
    )

    def sender(*args: Any, **options: Any) -> Any:
        send = real(*args, **options)
        return lambda request: answers.pop() if answers else send(request)

    monkeypatch.setattr(session, "urllib_sender", sender)
    assert invoke("poll", state, "--max-polls", "2", "--poll-interval", "1").exit_code == 0
    assert len(slept) == 1
    assert 90 <= slept[0] <= 99


def test_progress_on_a_terminal() -> None:
    out = Output(as_json=False)
    out.interactive = True
    outcome._wait(0.05, 1, outcome.Polling(interval=1, max_polls=1), out)


# --- renew ----------------------------------------------------------------------------


def renew_words(running: Lab, device: Path, home: Path) -> tuple[Any, ...]:
    return (
        *running.pinned,
        *("--certificate", device / "device.pem", "--key", device / "device.key"),
        *("--out", home / "new.pem"),
    )


def test_renew_with_a_new_key(running: Lab, device: Path, tmp_path: Path) -> None:
    words = (*renew_words(running, device, tmp_path), "--new-key", tmp_path / "new.key")
    data = done("renew", *words, "--ca-out", tmp_path / "ca.pem")
    old = x509.load_pem_x509_certificate((device / "device.pem").read_bytes())
    new = x509.load_pem_x509_certificate((tmp_path / "new.pem").read_bytes())
    assert data["serial_number"] == f"{new.serial_number:x}"
    assert new.subject == old.subject
    assert new.public_key() != old.public_key()
    kind = x509.SubjectAlternativeName
    names = new.extensions.get_extension_for_class(kind).value
    assert names == old.extensions.get_extension_for_class(kind).value
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600
    verify("-CAfile", tmp_path / "ca.pem", tmp_path / "new.pem")
    assert running.events[-1].message_type == "RENEWAL_REQ"


def test_renew_with_the_same_key(running: Lab, device: Path, tmp_path: Path) -> None:
    words = renew_words(running, device, tmp_path)
    found = invoke("renew", *words, "--same-key")
    assert found.exit_code == 0
    assert found.stdout.startswith("Certificate: ")


def test_renew_for_people(running: Lab, device: Path, tmp_path: Path) -> None:
    words = (*renew_words(running, device, tmp_path), "--new-key", tmp_path / "new.key")
    found = invoke("renew", *words)
    assert found.exit_code == 0
    assert "made a new 2048-bit RSA key" in found.stderr
    found = invoke("renew", *words, "--force")
    assert found.exit_code == 0
    assert found.stderr == "", "the key is there already"


def test_renew_a_certificate_without_alternative_names(running: Lab, tmp_path: Path) -> None:
    running.enroll(tmp_path)
    done("renew", *renew_words(running, tmp_path, tmp_path), "--same-key")


def test_renew_with_a_challenge(
    running: Lab, device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for micromdm scepserver, which wants one for renewals too."""
    made: list[Any] = []
    real = pyscep.pkcs10.create

    def create(*args: Any, **options: Any) -> Any:
        made.append(options["challenge_password"])
        return real(*args, **options)

    monkeypatch.setattr("pyscep.cli.renew.pkcs10.create", create)
    words = (*renew_words(running, device, tmp_path), "--same-key", "--force")
    done("renew", *words)
    done("renew", *words, "--challenge", "word")
    assert made == [None, "word"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "--new-key FILE or --same-key"),
        (("--new-key", "x", "--same-key"), "--new-key FILE or --same-key"),
        (("--same-key", "--key", "OTHER"), "does not belong"),
        (("--same-key", "--out", "OLD"), "exists already"),
    ],
)
def test_renew_misuse(
    running: Lab, device: Path, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    other = tmp_path / "other.key"
    subprocess.run(
        ["openssl", "genrsa", "-out", str(other), "2048"], check=True, capture_output=True
    )
    places = {"OTHER": other, "OLD": device / "device.pem"}
    chosen = [places.get(word, word) for word in words]
    error = failed(2, "renew", *renew_words(running, device, tmp_path), *chosen)
    assert complaint in error["message"]


def test_a_renewal_that_is_pending_polls_with_the_old_key(tmp_path: Path) -> None:
    profile = Profile(renewal=RenewalRules(approval="manual"))
    with (
        CertificateAuthority.create(tmp_path / "d", profiles=profile) as ca,
        listening(serve.site(ca, serve.ServeSettings())) as origin,
    ):
        slow = Lab(ca=ca, url=f"{origin}/scep", directory=tmp_path, events=[])
        slow.enroll(tmp_path)
        words = (*renew_words(slow, tmp_path, tmp_path), "--new-key", tmp_path / "new.key")
        assert invoke("renew", *words).exit_code == 5
        approve(slow)
        data = done("poll", tmp_path / "new.pem.pending.json")
    assert data["certificate_file"] == str(tmp_path / "new.pem")
    public = subprocess.run(
        ["openssl", "pkey", "-in", str(tmp_path / "new.key"), "-pubout"],
        check=True,
        capture_output=True,
    ).stdout
    found = x509.load_pem_x509_certificate((tmp_path / "new.pem").read_bytes()).public_key()
    assert found.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) == public


# --- caps, cacert, getnextcacert ------------------------------------------------------


def test_caps(running: Lab) -> None:
    assert "SCEPStandard" in done("caps", running.url)["capabilities"]
    assert "SCEPStandard\n" in invoke("caps", running.url).stdout


def test_no_capabilities() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"no\x1b"})

    with listening(app) as origin:
        assert invoke("caps", f"{origin}/scep").stdout == "(the server announces nothing)\n"


def test_cacert_shows_what_to_compare(running: Lab) -> None:
    data = done("cacert", running.url)
    assert data["authenticated"] is False
    assert data["ca"]["fingerprint"] == running.ca.fingerprint
    assert data["recipient"] == data["others"][0]["fingerprint"]
    text = invoke("cacert", running.url).stdout
    assert running.ca.fingerprint in text
    assert "NOT VERIFIED" in text


def test_cacert_verified(running: Lab, tmp_path: Path) -> None:
    data = done("cacert", *running.pinned, "--out", tmp_path / "ca.pem")
    assert data["authenticated"] is True
    written = (tmp_path / "ca.pem").read_bytes()
    assert x509.load_pem_x509_certificates(written) == list(running.ca.ca_certificates)
    done("cacert", *running.pinned, "--out", tmp_path / "ca.der", "--der")
    written = (tmp_path / "ca.der").read_bytes()
    assert x509.load_der_x509_certificate(written) == running.ca.issuer.certificate
    assert "NOT VERIFIED" not in invoke("cacert", *running.pinned).stdout


def test_cacert_writes_only_what_is_trusted(running: Lab, tmp_path: Path) -> None:
    error = failed(2, "cacert", running.url, "--out", tmp_path / "ca.pem")
    assert "--out needs" in error["message"]
    words = ("--out", tmp_path / "ca.pem", "--trust-on-first-use")
    done("cacert", running.url, *words)
    assert failed(2, "cacert", running.url, *words)["code"] == "file"
    done("cacert", running.url, *words, "--force")


@pytest.mark.rule("X01")
def test_cacert_with_another_fingerprint(running: Lab) -> None:
    failed(4, "cacert", running.url, "--fingerprint", "00" * 32)


def test_what_is_no_ca() -> None:
    assert not outcome.is_ca(keys.party("CN=device", keys.rsa_key("client")).certificate)


def test_no_next_ca(running: Lab) -> None:
    assert failed(1, "getnextcacert", *running.pinned)["status"] == 404


def test_getnextcacert(running: Lab, tmp_path: Path) -> None:
    following = keys.ca("CN=Next CA")
    server = running.ca.server(next_ca_certificates=(following.certificate,))
    with listening(ScepApp(server, running.ca)) as origin:
        words = ("getnextcacert", f"{origin}/scep", *running.pinned[1:])
        data = done(*words, "--out", tmp_path / "next.pem")
        assert invoke(*words).stdout.startswith("CN=Next CA\n  sha256:")
        done(*words, "--out", tmp_path / "next.der", "--der")
    assert data["certificates"][0]["subject"] == "CN=Next CA"
    written = (tmp_path / "next.pem").read_bytes()
    assert x509.load_pem_x509_certificates(written) == [following.certificate]


# --- getcert, crl ---------------------------------------------------------------------


def signed(device: Path) -> tuple[Any, ...]:
    return ("--certificate", device / "device.pem", "--key", device / "device.key")


def test_getcert(running: Lab, device: Path, tmp_path: Path) -> None:
    own = x509.load_pem_x509_certificate((device / "device.pem").read_bytes())
    words = ("getcert", *running.pinned[:1], str(own.serial_number), *running.pinned[1:])
    words += signed(device)
    found = invoke(*words)
    assert x509.load_pem_x509_certificate(found.stdout_bytes) == own
    assert x509.load_der_x509_certificate(invoke(*words, "--der").stdout_bytes) == own
    data = done(*words)
    assert x509.load_pem_x509_certificate(data["pem"].encode()) == own
    assert bytes.fromhex(done(*words, "--der")["der"]) == invoke(*words, "--der").stdout_bytes
    data = done(*words, "--out", tmp_path / "c.pem")
    assert data["file"] == str(tmp_path / "c.pem")
    assert x509.load_pem_x509_certificate((tmp_path / "c.pem").read_bytes()) == own
    assert invoke(*words, "--out", tmp_path / "d.pem").stdout.startswith("written: ")


def test_an_unknown_certificate_is_exit_code_3(running: Lab, device: Path) -> None:
    words = (running.url, "0xabcdef", *running.pinned[1:], *signed(device))
    assert failed(3, "getcert", *words)["fail_info"] == "badCertId"


def test_crl(running: Lab, device: Path, tmp_path: Path) -> None:
    words = ("crl", *running.pinned, *signed(device))
    data = done(*words, "--out", tmp_path / "ca.crl")
    assert data["issuer"] == "CN=pyscep CA"
    assert data["next_update"]
    verify(
        "-crl_check", "-CRLfile", tmp_path / "ca.crl", "-CAfile", device / "ca.pem",
        device / "device.pem",
    )  # fmt: skip
    der = invoke(*words, "--der", "--serial", "01:02").stdout_bytes
    assert x509.load_der_x509_crl(der).issuer == running.ca.issuer.certificate.subject


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("17", 17),
        ("0x17", 0x17),
        ("0X1F", 0x1F),
        ("1f", 0x1F),
        ("01:17", 0x117),
        (" 12 ", 12),
        ("DEADBEEF", 0xDEADBEEF),
    ],
)
def test_serial_numbers(text: str, number: int) -> None:
    assert query.parse_serial(text) == number


@pytest.mark.parametrize("text", ["", "0", "-5", "0x", "xyz", "1_0", "9" * 100, "0x" + "f" * 81])
def test_serial_numbers_that_are_none(text: str) -> None:
    with pytest.raises(Failed, match="not a serial number"):
        query.parse_serial(text)
