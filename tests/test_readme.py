"""The snippets of the documents run as they stand there."""

from __future__ import annotations

import asyncio
import hmac
import importlib
import re
import shlex
import sys
import types
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import pyscep
from pyscep.ca import creation
from tests import documents, serving

SECRET = "correct horse"
LONG_SECRET = "0123456789abcdef" * 1_650  # 26,400 characters: a query of more than 40,000 bytes
EMBEDDING = "docs/embedding.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A CA certificate with its key, and a client's key."""

    ca_key: rsa.RSAPrivateKey
    ca_certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    def issue(self, csr: pyscep.pkcs10.CertificateRequest) -> x509.Certificate:
        request = csr.certificate_request
        return self._build(request.subject, request.public_key(), days=1)

    def _build(self, subject: x509.Name, public_key: Any, *, days: int) -> x509.Certificate:
        return _certificate(subject, public_key, self.ca_certificate.subject, self.ca_key, days)

    def names(self, secret: str = SECRET) -> dict[str, Any]:
        """What the snippets take for granted."""
        return {
            "cert_pem": self.ca_certificate.public_bytes(serialization.Encoding.PEM),
            "key_pem": self.ca_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            "secret": secret.encode(),
            "issue": self.issue,
        }

    def csr(self, secret: str = SECRET) -> pyscep.pkcs10.CertificateRequest:
        return pyscep.pkcs10.create(self.key, "CN=client", challenge_password=secret)

    def client(self, url: str, method: str = "auto") -> pyscep.Client:
        return pyscep.Client(url, ca_certificates=(self.ca_certificate,), method=method)


def _certificate(
    subject: x509.Name, public_key: Any, issuer: x509.Name, key: rsa.RSAPrivateKey, days: int
) -> x509.Certificate:
    now = datetime.now(UTC)
    is_ca = subject == issuer
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def lab() -> Lab:
    ca_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name.from_rfc4514_string("CN=Snippet CA")
    return Lab(
        ca_key=ca_key,
        ca_certificate=_certificate(name, ca_key.public_key(), name, ca_key, days=2),
        key=rsa.generate_private_key(public_exponent=65537, key_size=2048),
    )


def issued_key(result: object) -> Any:
    assert isinstance(result, pyscep.Success)
    return result.certificates[0].public_key()


# docs/embedding.md -------------------------------------------------------------------------------


def embedded(lab: Lab, name: str, secret: str) -> dict[str, Any]:
    """The namespace of a framework's snippet, on top of the authority's."""
    names = documents.execute(EMBEDDING, "authority", lab.names(secret))
    return documents.execute(EMBEDDING, name, names)


@pytest.fixture
def django_urls() -> Iterator[types.ModuleType]:
    module = types.ModuleType("snippet_urls")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def django_app(names: dict[str, Any], urls: types.ModuleType) -> Any:
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.urls import clear_url_caches

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=urls.__name__, SECRET_KEY="test", USE_TZ=True
        )
        django.setup()
    clear_url_caches()
    urls.urlpatterns = names["urlpatterns"]  # type: ignore[attr-defined] # a module made on the fly
    return WSGIHandler()


def plain_plus(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
    """Send as a device does that escapes nothing: bare + and / and = in the query."""
    query = request.query.replace(b"%2B", b"+").replace(b"%2F", b"/").replace(b"%3D", b"=")
    return pyscep.urllib_sender(timeout=30)(replace(request, query=query))


@pytest.mark.parametrize("name", ["starlette", "fastapi", "flask", "django", "aiohttp", "wsgi"])
@pytest.mark.parametrize("path", ["/scep", "/scep/pkiclient.exe"])
def test_framework(lab: Lab, name: str, path: str, django_urls: types.ModuleType) -> None:
    module = name if name != "wsgi" else "wsgiref"
    pytest.importorskip(module, reason="comes with an extra or the development tools")
    names = embedded(lab, name, LONG_SECRET)
    serve: AbstractContextManager[str]
    match name:
        case "starlette" | "fastapi":
            serve = serving.asgi(names["app"])
        case "aiohttp":
            serve = serving.aiohttp(names["app"])
        case "django":
            serve = serving.wsgi(django_app(names, django_urls))
        case _:
            serve = serving.wsgi(names["app"])
    longest = 0

    def send_get(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
        nonlocal longest
        longest = max(longest, len(request.query))
        return plain_plus(request)

    csr = lab.csr(LONG_SECRET)
    with serve as origin:
        url = origin + path
        posted = pyscep.run(lab.client(url, "post").enroll(lab.key, csr), pyscep.urllib_sender())
        gotten = pyscep.run(lab.client(url, "get").enroll(lab.key, csr), send_get)
    assert issued_key(posted) == issued_key(gotten) == lab.key.public_key()
    assert longest > 40_000


def test_embedding_without_http(lab: Lab) -> None:
    names = documents.execute(EMBEDDING, "authority", lab.names())
    names |= {"server_certificate": lab.ca_certificate, "key": lab.key, "csr": lab.csr()}
    assert issued_key(documents.execute(EMBEDDING, "memory", names)["result"])


def test_embedding_a_change_of_cas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"present": made_ca("present", 1), "following": made_ca("following", 2)}
    found = documents.execute(EMBEDDING, "rollover", names)
    with found["ca"] as ca:
        assert list(ca.published()) == ["ca", "ca-2"]
        client = pyscep.Client("http://test/scep", ca_fingerprint=ca.fingerprint)
        send = partial(found["server"].handle, authority=ca)
        known = pyscep.run(client.get_next_ca_cert(), send)
        assert known == (names["following"].certificate,)


def made_ca(name: str, serial_number: int) -> pyscep.Identity:
    key = creation.generate_key("rsa-2048")
    certificate = creation.make_ca(
        key,
        common_name=name,
        organization=None,
        validity=timedelta(days=9),
        now=datetime.now(UTC),
        serial_number=serial_number,
        decrypts=True,
    )
    return pyscep.Identity(certificate, key)


def test_architecture_in_memory(lab: Lab) -> None:
    names = documents.execute(EMBEDDING, "authority", lab.names())
    names |= {"run": pyscep.run, "partial": partial, "key": lab.key, "csr": lab.csr()}
    names["client"] = lab.client("http://test/scep")
    assert issued_key(documents.execute("docs/architecture.md", "memory", names)["result"])


def test_the_authority_refuses_a_wrong_word(lab: Lab) -> None:
    names = documents.execute(EMBEDDING, "authority", lab.names())
    flow = lab.client("http://test/scep").enroll(lab.key, lab.csr("wrong"))
    with pytest.raises(pyscep.EnrollmentRefused) as caught:
        pyscep.run(flow, partial(names["server"].handle, authority=names["authority"]))
    assert caught.value.fail_info is pyscep.FailInfo.BAD_REQUEST


# The design's user code --------------------------------------------------------------------------


def test_user_code(lab: Lab, tmp_path: Path) -> None:
    """Server, client and state file as a user writes them."""
    names = lab.names()
    secret: bytes = names["secret"]
    issue = lab.issue
    key, csr, state = lab.key, lab.csr(), tmp_path / "state.json"
    server = pyscep.Server(pyscep.Identity.from_pem(names["cert_pem"], names["key_pem"]))

    def authority(request: pyscep.PkiRequest) -> pyscep.Outcome:
        match request.message:
            case pyscep.PKCSReq(csr=csr, challenge_password=str(word)) if hmac.compare_digest(
                word.encode(), secret
            ):
                return pyscep.Success(certificates=(issue(csr),))
            case _:
                return pyscep.Failure(fail_info=pyscep.FailInfo.BAD_REQUEST)

    fingerprint = lab.ca_certificate.fingerprint(hashes.SHA256()).hex()
    client = pyscep.Client("http://ca.example/scep", ca_fingerprint=f"sha256:{fingerprint}")
    saved = []
    match pyscep.run(client.enroll(key, csr), partial(server.handle, authority=authority)):
        case pyscep.Success(certificates=(certificate, *_)):
            saved.append(certificate)
        case pyscep.PendingEnrollment() as pending:
            state.write_text(pending.to_json())
    assert saved[0].public_key() == key.public_key()

    def undecided(_: pyscep.PkiRequest) -> pyscep.Outcome:
        return pyscep.Pending()

    match pyscep.run(client.enroll(key, csr), partial(server.handle, authority=undecided)):
        case pyscep.PendingEnrollment() as pending:
            state.write_text(pending.to_json())
    again = pyscep.PendingEnrollment.from_json(state.read_text())
    poll = pyscep.run(client.poll(again, key), partial(server.handle, authority=undecided))
    assert isinstance(poll, pyscep.PendingEnrollment)


def test_user_code_async(lab: Lab) -> None:
    """``await run_async(flow, httpx_sender(http))`` against an application in memory."""
    import httpx

    names = embedded(lab, "starlette", SECRET)

    async def main() -> object:
        transport = httpx.ASGITransport(app=names["app"])
        async with httpx.AsyncClient(transport=transport) as http:
            flow = lab.client("http://ca.example/scep").enroll(lab.key, lab.csr())
            return await pyscep.run_async(flow, pyscep.httpx_sender(http))

    assert issued_key(asyncio.run(main()))


def test_user_code_batteries(lab: Lab, tmp_path: Path) -> None:
    """A real CA in one line, durable: what it issued is there when it is opened again."""
    pytest.importorskip("sqlalchemy", reason="comes with the extra ca")
    issuer = pyscep.Identity(lab.ca_certificate, lab.ca_key)
    url = f"sqlite:///{tmp_path}/scep.db"
    profile = pyscep.ca.Profile(name="device", validity=timedelta(days=1))
    with pyscep.ca.CertificateAuthority.open(url, issuer=issuer, profiles=(profile,)) as ca:
        word = ca.new_challenge()
        flow = lab.client("http://test/scep").enroll(lab.key, lab.csr(word))
        result = pyscep.run(flow, partial(ca.server().handle, authority=ca))
    assert issued_key(result) == lab.key.public_key()
    assert isinstance(result, pyscep.Success)
    with pyscep.ca.CertificateAuthority.open(url, issuer=issuer, profiles=(profile,)) as ca:
        serials = [record.serial_number for record in ca.certificates()]
    assert serials == [result.certificates[0].serial_number]


@rsa.RSAPrivateKey.register
class TokenKey:
    """A key as a token's library offers it: pyca's methods, and no way to get at the numbers."""

    def __init__(self, inside: rsa.RSAPrivateKey) -> None:
        self._inside = inside
        self.used: list[str] = []

    @property
    def key_size(self) -> int:
        return self._inside.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._inside.public_key()

    def sign(self, data: bytes, padding: Any, algorithm: Any) -> bytes:
        self.used.append("sign")
        return self._inside.sign(data, padding, algorithm)

    def decrypt(self, ciphertext: bytes, padding: Any) -> bytes:
        self.used.append("decrypt")
        return self._inside.decrypt(ciphertext, padding)


def test_keys_in_a_token(lab: Lab, tmp_path: Path) -> None:
    """Both sides, and the CA's issuing, with keys that aren't pyca's own."""
    ca_key, key = TokenKey(lab.ca_key), TokenKey(lab.key)
    issuer = pyscep.Identity(lab.ca_certificate, ca_key)
    url = f"sqlite:///{tmp_path}/scep.db"
    csr = lab.csr("word")
    with pyscep.ca.CertificateAuthority.open(url, issuer=issuer, static_challenge="word") as ca:
        flow = lab.client("http://test/scep").enroll(key, csr)
        result = pyscep.run(flow, partial(ca.server().handle, authority=ca))
    assert issued_key(result) == lab.key.public_key()
    assert set(ca_key.used) == set(key.used) == {"sign", "decrypt"}


# README ------------------------------------------------------------------------------------------


def test_readme_ca_and_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two snippets at the top, one against the other over HTTP."""
    pytest.importorskip("sqlalchemy", reason="comes with the extra ca")
    monkeypatch.chdir(tmp_path)
    names = documents.execute("README.md", "ca", {})
    with names["ca"] as ca, serving.asgi(names["app"]) as origin:
        given = {"url": f"{origin}/scep", "fingerprint": ca.fingerprint}
        client = documents.execute("README.md", "client", given)
        assert client["certificate"].public_key() == client["key"].public_key()
    assert capsys.readouterr().out == "CN=device-1\n"


def test_readme_authority(lab: Lab) -> None:
    """The snippets of "Your own authority"."""
    names = documents.execute("README.md", "authority", lab.names())
    with serving.asgi(names["app"]) as origin:
        flow = lab.client(f"{origin}/scep").enroll(lab.key, lab.csr())
        assert issued_key(pyscep.run(flow, pyscep.urllib_sender())) == lab.key.public_key()
    names |= {"key": lab.key, "csr": lab.csr(), "client": lab.client("http://test/scep")}
    assert issued_key(documents.execute("README.md", "memory", names)["result"])


def test_readme_command() -> None:
    """Every command line parses: its options exist, and none that is required is missing."""
    click = pytest.importorskip("click", reason="comes with the extra cli")
    group = importlib.import_module("pyscep.cli.group").pyscep
    lines = documents.code("README.md", "sh")["command"].replace("\\\n", " ").splitlines()
    assert len(lines) == 3
    for line in lines:
        program, name, *arguments = shlex.split(line, comments=True)
        assert program == "pyscep"
        command = group.get_command(click.Context(group), name)
        parser = command.make_parser(click.Context(command))
        given, _, _ = parser.parse_args(list(arguments))
        needed = {parameter.name for parameter in command.params if parameter.required}
        assert needed <= {key for key, value in given.items() if value is not None}


def test_every_snippet_is_run() -> None:
    """A block that nobody names here is a block that nobody tests."""
    assert set(documents.code("README.md")) == {"ca", "client", "authority", "memory"}
    assert set(documents.code("docs/architecture.md")) == {"memory"}
    frameworks = {"starlette", "fastapi", "flask", "django", "aiohttp", "wsgi"}
    assert set(documents.code(EMBEDDING)) == frameworks | {"authority", "memory", "rollover"}


def test_first_lines() -> None:
    lines = (documents.ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40]
    head = "\n".join(lines)
    assert "make demo" in head
    assert "make test" in head
    assert head.count("```") == 4, "a working example fits in the first 40 lines"


def test_the_features_instead_of_ndes_are_shown_by_tests_that_exist() -> None:
    """Each row has a page that exists, and names tests that pytest would find."""
    text = (documents.ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## In place of NDES, with Intune\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 15
    for part, page, shown in rows:
        assert re.search(r"\]\(docs/[^)]+\)", page), part
        named = re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", shown)
        assert named, part
        assert shown.count("`") == 2 * len(named), f"{part}: something else is named, too"
        source = ""
        for path, name in named:
            if path:
                source = (documents.ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{part}: {path}::{name}"


def test_nobody_is_sent_to_a_strangers_package() -> None:
    """The name on PyPI is another project's: no document says to install it from there."""
    for path in (*documents.ROOT.glob("*.md"), *documents.ROOT.glob("docs/**/*.md")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install [^\n`]*\bpyscep\b", text), path.name


def test_documents_name_files_that_exist() -> None:
    for path in (*documents.ROOT.glob("*.md"), *documents.ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
