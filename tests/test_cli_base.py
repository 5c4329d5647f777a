"""The command line around its commands: help, errors, exit codes, files."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

import pyscep
from pyscep.cli import files, group, problems
from pyscep.cli.problems import Failed, describe, visible
from pyscep.enums import FailInfo
from tests import forge_keys as keys
from tests.cli_lab import done, failed, invoke

ROOT = Path(__file__).resolve().parent.parent


# --- help and start -------------------------------------------------------------------


def test_help_names_every_command_and_exit_code() -> None:
    text = invoke("--help").stdout
    for name in group._COMMANDS:
        assert re.search(rf"^  {name} ", text, re.M), name
    for code in range(6):
        assert f"\n    {code}  " in text


@pytest.mark.parametrize("name", list(group._COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    text = invoke(name, "--help").stdout
    assert "Example" in text
    assert f"pyscep {name}" in text
    assert "--json" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_list_of_commands() -> None:
    context = click.Context(group.pyscep)
    assert group.pyscep.list_commands(context) == list(group._COMMANDS)
    assert group.pyscep.get_command(context, "nonsense") is None


def test_version() -> None:
    assert invoke("--version").stdout == f"pyscep {pyscep.__version__}\n"


def test_info() -> None:
    data = done("info")
    assert data["pyscep"] == pyscep.__version__
    assert data["backend"] in ("pure", "native")
    assert "OpenSSL" in data["openssl"]
    assert data["packages"]["cryptography"]
    text = invoke("info").stdout
    assert text.startswith(f"pyscep {pyscep.__version__}\n")
    assert "cryptography" in text


def test_info_without_some_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "httpx":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert done("info")["packages"]["httpx"] is None
    assert re.search(r"^  httpx +not installed$", invoke("info").stdout, re.M)


def test_help_loads_no_command() -> None:
    code = (
        "import sys\nfrom pyscep.cli.group import pyscep\n"
        "try: pyscep(['--help'])\nexcept SystemExit: pass\n"
        "loaded = set(sys.modules)\n"
        "bad = loaded & {'pyscep.client', 'pyscep.server', 'pyscep.ca', 'sqlalchemy', 'rich',\n"
        "                'pyscep.cli.enroll', 'uvicorn', 'asn1crypto'}\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_click_one_message_and_no_traceback(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nimport pyscep.cli; pyscep.cli.main()"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert found.stdout == ""
    assert f"the package {missing}" in found.stderr
    assert "pip install '.[cli]'" in found.stderr
    assert "Traceback" not in found.stderr


def test_another_missing_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyscep.cli

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "click":
                raise ModuleNotFoundError("no colorama", name="colorama")

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "click")
    with pytest.raises(ModuleNotFoundError, match="colorama"):
        pyscep.cli.main()


def test_python_dash_m() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pyscep", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"pyscep {pyscep.__version__}\n"


@pytest.mark.parametrize("words", [("nonsense",), ("info", "--nonsense"), ("enroll",), ()])
def test_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    assert invoke(*words).exit_code == 2


def test_usage_as_json() -> None:
    error = failed(2, "enroll", "http://127.0.0.1:1/")
    assert error["code"] == "usage"
    assert "--key" in error["message"]
    assert failed(2, "nonsense")["message"].startswith("there is no command 'nonsense'")


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pyscep.cli.info._version", broken)
    with pytest.raises(ZeroDivisionError):
        invoke("info")


# --- problems -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (pyscep.TransportError("x"), "transport", 1),
        (Failed("x"), "usage", 2),
        (click.UsageError("x"), "usage", 2),
        (click.ClickException("x"), "usage", 2),
        (FileNotFoundError(2, "No such file", "f"), "file", 2),
        (FileExistsError(17, "File exists", "f"), "file", 2),
        (ModuleNotFoundError("x", name="uvicorn"), "missing_package", 2),
        (pyscep.EnrollmentRefused(FailInfo.BAD_REQUEST), "refused", 3),
        (pyscep.DecodeError("x"), "decode", 4),
        (pyscep.SignatureError("x"), "signature", 4),
        (pyscep.DecryptionError("x"), "decryption", 4),
        (pyscep.AlgorithmError("x"), "algorithm", 4),
        (pyscep.UnknownCertificate("x"), "unknown_certificate", 4),
        (pyscep.ProtocolError("x"), "protocol", 4),
        (pyscep.ScepError("x"), "protocol", 4),
        (click.Abort(), "aborted", 130),
    ],
)
def test_each_error_has_its_code(error: Exception, code: str, exit_code: int) -> None:
    problem = describe(error)
    assert problem is not None
    assert (problem.code, problem.exit_code) == (code, exit_code)
    assert problem.text().startswith("Error: ")


def test_no_error_is_taken_for_another() -> None:
    assert describe(ZeroDivisionError()) is None
    assert describe(ModuleNotFoundError("x", name="pyscep_typo")) is None
    assert describe(OSError("no file name")) is None


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (pyscep.EnrollmentRefused(FailInfo.BAD_CERT_ID), "badCertId"),
        (pyscep.EnrollmentRefused(9), "9"),
        (pyscep.EnrollmentRefused(None), "no failInfo"),
    ],
)
def test_a_refusal_names_its_reason(error: pyscep.EnrollmentRefused, shown: str) -> None:
    problem = describe(error)
    assert problem is not None
    assert problem.message == f"the CA refused the request: {shown}"


@pytest.mark.rule("X11")
def test_text_of_the_network_is_escaped() -> None:
    error = pyscep.EnrollmentRefused(FailInfo.BAD_ALG, "a\x1b[31m\u202eb\ud800ü")
    problem = describe(error)
    assert problem is not None
    assert problem.message.endswith(r"(a\x1b[31m\u202eb\ud800ü)")
    assert json.loads(problem.to_json())["error"]["fail_info"] == "badAlg"
    assert visible("\x00\n\x7f\x9b") == r"\x00\n\x7f\x9b"


def test_a_busy_server_says_when_to_come_back() -> None:
    problem = describe(pyscep.TransportError("HTTP 503", status=503, retry_after=30.0))
    assert problem is not None
    assert "wait 30 seconds" in problem.message
    assert json.loads(problem.to_json())["error"]["retry_after"] == 30.0


@pytest.mark.parametrize(
    ("policy", "name", "shown", "wanted"),
    [
        (pyscep.MODERN, "des-cbc", "single DES", "legacy"),
        (pyscep.MODERN, "des-ede3-cbc", "triple DES", "compatible"),
    ],
)
def test_a_refused_cipher_names_the_switch(
    policy: pyscep.AlgorithmPolicy, name: str, shown: str, wanted: str
) -> None:
    with pytest.raises(pyscep.AlgorithmError) as caught:
        policy.require_cipher(name)
    problem = describe(caught.value)
    assert problem is not None
    assert problem.message.startswith(f"the server answered with {shown}, which the policy")
    assert problem.message.endswith(f"pass --policy {wanted}")


def test_a_refused_digest_names_the_switch() -> None:
    with pytest.raises(pyscep.AlgorithmError) as caught:
        pyscep.COMPATIBLE.require_digest("md5")
    problem = describe(caught.value)
    assert problem is not None
    assert problem.message.endswith("pass --policy legacy")


def test_a_database_error_is_one_line() -> None:
    from sqlalchemy.exc import OperationalError

    problem = describe(OperationalError("SELECT secret", {}, Exception("disk I/O error")))
    assert problem is not None
    assert (problem.code, problem.exit_code) == ("database", problems.USAGE)
    assert "secret" not in problem.message
    assert "disk I/O error" in problem.message


# --- files ----------------------------------------------------------------------------


def test_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    files.write(path, b"first", mode=files.SECRET_MODE)
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError) as caught:
        files.write(path, b"second", mode=files.SECRET_MODE)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"first"
    files.write(path, b"third", mode=files.PUBLIC_MODE, replace=True)
    assert path.read_bytes() == b"third"
    assert os.listdir(tmp_path) == ["key.pem"]


def test_write_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "key.pem"
    files.write(path, b"first", mode=files.SECRET_MODE)
    with pytest.raises(FileExistsError):
        files.write(path, b"second", mode=files.SECRET_MODE)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["key.pem"]


def test_refuse_existing(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.symlink_to("nowhere")
    files.refuse_existing(None, tmp_path / "new", force=False)
    files.refuse_existing(there, force=True)
    with pytest.raises(FileExistsError):
        files.refuse_existing(there, force=False)
    with pytest.raises(FileNotFoundError, match="No such directory"):
        files.refuse_existing(tmp_path / "no" / "file", force=False)


def test_read_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * 11)
    assert files.read(str(path), limit=11) == b"x" * 11
    with pytest.raises(Failed, match="longer than 10 bytes"):
        files.read(str(path), limit=10)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_load_key(tmp_path: Path, encoding: Encoding, form: PrivateFormat) -> None:
    key = keys.rsa_key("client")
    path = tmp_path / "key"
    path.write_bytes(key.private_bytes(encoding, form, NoEncryption()))
    loaded: Any = files.load_key(str(path))
    assert loaded.private_numbers() == key.private_numbers()


def test_load_an_encrypted_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, path = keys.rsa_key("client"), tmp_path / "key"
    locked = BestAvailableEncryption(b"open sesame")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    with pytest.raises(Failed, match="set PYSCEP_KEY_PASSWORD"):
        files.load_key(str(path))
    monkeypatch.setenv("PYSCEP_KEY_PASSWORD", "wrong")
    with pytest.raises(Failed, match="not a private key that opens"):
        files.load_key(str(path))
    monkeypatch.setenv("PYSCEP_KEY_PASSWORD", "open sesame")
    files.load_key(str(path))
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.load_key(str(path))  # a key without a password, beside one with


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\x30\x00"])
def test_what_is_no_key_and_no_certificate(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(Failed, match="private key"):
        files.load_key(str(path))
    with pytest.raises(Failed, match="no certificate"):
        files.load_certificates(str(path))


def test_load_certificates(tmp_path: Path) -> None:
    ca, path = keys.ca().certificate, tmp_path / "file"
    path.write_bytes(ca.public_bytes(Encoding.DER))
    assert files.load_certificates(str(path)) == [ca]
    path.write_bytes(files.certificates_pem([ca, ca]))
    assert files.load_certificates(str(path)) == [ca, ca]


def test_read_word(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_bytes("pässword \r\n".encode())
    assert files.read_word(str(path)) == "pässword "
    for data, complaint in ((b"\n", "is empty"), (b"\xff", "not UTF-8")):
        path.write_bytes(data)
        with pytest.raises(Failed, match=complaint):
            files.read_word(str(path))


def test_a_new_key_is_secret_and_an_old_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    _, made = files.load_or_make_key(str(path), 2048)
    assert made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    _, made = files.load_or_make_key(str(path), 2048)
    assert not made
    assert path.read_bytes() == before
