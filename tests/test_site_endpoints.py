"""Many endpoints on one port: who answers where, and with what."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.adapters import http_server
from pyscep.ca import CertificateAuthority
from pyscep.capabilities import Capabilities
from pyscep.cms.certs_only import read_certs_only
from pyscep.events import RequestAnswered
from pyscep.http import HttpRequest, HttpResponse
from pyscep.site.building import Builder
from pyscep.site.config import ConfigError, parse
from pyscep.site.endpoints import Endpoints, OpenSite, Route
from pyscep.site.passwords import account_line
from tests import forge_keys as keys
from tests.ca_setting import openssl, write_pem
from tests.cli_lab import done, failed, invoke, listening

CRL_URL = "http://pki.example/crl/main.crl"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """CAs of several shapes, made once: below a root, with an RA, without, and split."""
    home = tmp_path_factory.mktemp("cas")
    with CertificateAuthority.create(home / "root", key_type="rsa-2048") as root:
        parent = root.issuer.identity
    for name, topology in (("ra", "ra"), ("plain", "ca"), ("ndes", "ndes")):
        CertificateAuthority.create(
            home / name, key_type="rsa-2048", topology=topology, parent=parent,
            common_name=f"Test {name}").close()
    return {name: home / name for name in ("root", "ra", "plain", "ndes")}


class Site:
    """A configuration, opened in memory."""

    def __init__(self, base: Path, data: dict[str, Any]) -> None:
        self.events: list[Any] = []
        config = parse(data)
        self.site = OpenSite(config, Builder(config, base), on_event=self.events.append)
        self.by_name = {one.name: one for one in self.site.endpoints}

    def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """One HTTP request; status and body."""
        return asyncio.run(self._ask(method, target, body))

    async def _ask(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(),
            "headers": [(b"content-length", str(len(body)).encode())], "http_version": "1.1",
            "client": ("192.0.2.1", 5), "root_path": ""}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.site.app(scope, receive, send)
        return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])

    def send(self, request: HttpRequest) -> HttpResponse:
        """A sender for pyscep.run."""
        url = request.url.removeprefix("http://site.test")
        status, body = self.ask(request.method, url, request.body)
        media = "text/plain" if b"GetCACaps" in url.encode() else "application/x-pki-message"
        if "GetCACert" in url:
            media = "application/x-x509-ca-ra-cert"
            if body[:2] == b"\x30\x82" and b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" not in body[:30]:
                media = "application/x-x509-ca-cert"
        return HttpResponse(status=status, headers=(("content-type", media),), body=body)

    def client(self, name: str) -> pyscep.Client:
        endpoint = self.by_name[name]
        return pyscep.Client(
            f"http://site.test{endpoint.path}", ca_fingerprint=endpoint.ca.fingerprint,
            policy=pyscep.COMPATIBLE)

    def enroll(self, name: str, challenge: str | None = None, key_name: str = "client",
               **more: Any) -> Any:
        """Enroll; the certificates of the answer."""
        if challenge is None:
            challenge = self.by_name[name].ca.new_challenge()
        key = keys.rsa_key(key_name)
        csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=challenge, **more)
        return pyscep.run(self.client(name).enroll(key, csr), self.send).certificates

    def close(self) -> None:
        self.site.close()


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def open_site(data: dict[str, Any]) -> Site:
        site = Site(tmp_path, data)
        request.addfinalizer(site.close)
        return site

    return open_site


def ca(place: Path, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"directory": str(place), "database": f"sqlite:///{tmp_path}/{place.name}.db",
            "crl_urls": [CRL_URL]} | more


ONCE = {"once": {"kind": "one-time"}}


def endpoint(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "ca": "main", "profiles": ["device"], "challenges": ["once"]} | more


def get_ca_cert(site: Site, path: str) -> list[str]:
    """The common names in a GetCACert answer."""
    status, body = site.ask("GET", f"{path}?operation=GetCACert")
    assert status == 200
    try:
        found = [x509.load_der_x509_certificate(body)]
    except ValueError:
        found = [x509.load_der_x509_certificate(one) for one in read_certs_only(body).certificates]
    return [one.subject.rfc4514_string().removeprefix("CN=") for one in found]


# --- where -----------------------------------------------------------------------------


def test_two_cas_on_one_server(opened: Any, places: Any, tmp_path: Path) -> None:
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path), "other": ca(places["plain"], tmp_path)},
        "challenge": ONCE,
        "profile": {"device": {}, "short": {"validity_days": 7}},
        "endpoint": {
            "devices": endpoint("/scep"),
            "phones": endpoint("/scep/phones", profiles=["short"]),
            "others": endpoint("/others", ca="other"),
        },
    })
    issuers = {
        name: site.enroll(name, key_name=name)[0] for name in ("devices", "phones", "others")}
    assert {name: one.issuer.rfc4514_string() for name, one in issuers.items()} == {
        "devices": "CN=Test ra", "phones": "CN=Test ra", "others": "CN=Test plain"}
    phone = issuers["phones"]
    assert (phone.not_valid_after_utc - phone.not_valid_before_utc).days == 8, "with backdating"
    paths = [one.path for one in site.events if isinstance(one, RequestAnswered)]
    assert paths == ["/scep", "/scep/phones", "/others"]
    text = openssl("x509", "-noout", "-text", data=phone.public_bytes(Encoding.PEM))
    assert f"URI:{CRL_URL}" in text


def test_a_challenge_is_for_its_cas_store_and_a_certificate_for_its_profile(
    opened: Any, places: Any, tmp_path: Path
) -> None:
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path)},
        "challenge": ONCE,
        "profile": {"guest": {}, "staff": {}},
        "endpoint": {
            "guests": endpoint("/guests", profiles=["guest"]),
            "staff": endpoint("/staff", profiles=["staff"], challenges=[]),
        },
    })
    (certificate,) = site.enroll("guests")
    identity = pyscep.Identity(certificate, keys.rsa_key("client"))
    key = keys.rsa_key("renewed")
    csr = pyscep.pkcs10.create(key, "CN=device")
    with pytest.raises(pyscep.EnrollmentRefused):
        pyscep.run(site.client("staff").renew(identity, key, csr), site.send)
    assert "'guest' is none of this endpoint's" in site.events[-1].outcome.reason
    with pytest.raises(pyscep.EnrollmentRefused):
        site.enroll("staff", challenge="anything")
    assert "takes no challenges" in site.events[-1].outcome.reason
    assert isinstance(
        pyscep.run(site.client("guests").renew(identity, key, csr), site.send), pyscep.Success)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/scep", 200), ("/scep/", 200), ("/scep/pkiclient.exe", 200), ("/SCEP", 404),
        ("/scepter", 404), ("/", 404), ("", 404), ("/Any", 200), ("/any/PKICLIENT.EXE", 200),
        ("/ANYTHING", 404), ("/crl/none.crl", 404),
    ],
)
def test_paths(opened: Any, places: Any, tmp_path: Path, path: str, status: int) -> None:
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path)},
        "challenge": ONCE,
        "endpoint": {
            "exact": endpoint("/scep"), "any": endpoint("/ANY", ignore_case=True)},
    })
    assert site.ask("GET", f"{path}?operation=GetCACaps")[0] == status


def test_an_endpoint_for_everything(opened: Any, places: Any, tmp_path: Path) -> None:
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
        "endpoint": {"all": endpoint("/")}})
    assert site.ask("GET", "/whatever?operation=GetCACaps")[0] == 200
    assert site.enroll("all")


def test_publication(opened: Any, places: Any, tmp_path: Path) -> None:
    data = {"ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
            "endpoint": {"devices": endpoint("/crl")}}
    site = opened(data)
    status, body = site.ask("GET", "/crl/main.crl")
    assert status == 200
    (tmp_path / "crl.pem").write_text(openssl("crl", "-inform", "DER", data=body))
    certificate = site.enroll("devices")[0]
    leaf = write_pem(tmp_path / "leaf.pem", [certificate])
    chain = write_pem(tmp_path / "chain.pem", site.by_name["devices"].ca.ca_certificates)
    openssl("verify", "-crl_check", "-CAfile", chain, "-CRLfile", tmp_path / "crl.pem", leaf)
    assert x509.load_der_x509_certificate(site.ask("GET", "/aia/main.cer")[1])
    quiet = opened(data | {"server": {"publish": False}, "endpoint": {"a": endpoint("/scep")}})
    assert quiet.ask("GET", "/crl/main.crl")[0] == 404


# --- with what -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "content", "expected"),
    [
        ("ra", "ra+issuer", {"Test ra RA", "Test ra"}),
        ("ra", "chain", {"Test ra RA", "Test ra", "pyscep CA"}),
        ("plain", "issuer", {"Test plain"}),
        ("plain", "ra+issuer", {"Test plain"}),
        ("plain", "chain", {"Test plain", "pyscep CA"}),
        ("ndes", "ra+issuer", {"Test ndes RA Signing", "Test ndes RA Encryption", "Test ndes"}),
    ],
)
def test_get_ca_cert(
    opened: Any, places: Any, tmp_path: Path, place: str, content: str, expected: set[str]
) -> None:
    site = opened({
        "ca": {"main": ca(places[place], tmp_path)}, "challenge": ONCE,
        "endpoint": {"devices": endpoint("/scep", ca_certificates=content)}})
    found = get_ca_cert(site, "/scep")
    assert {one.lower() for one in found} == {one.lower() for one in expected}
    assert len(found) == len(expected)
    assert site.enroll("devices")


def test_the_issuer_alone_does_not_go_with_an_ra(places: Any, tmp_path: Path) -> None:
    config = parse({
        "ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
        "endpoint": {"devices": endpoint("/scep", ca_certificates="issuer")}})
    with pytest.raises(ConfigError, match=r"endpoint\.devices: .*clients would encrypt to the CA"):
        OpenSite(config, Builder(config, tmp_path))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("issued", ["device"]),
        ("issued+issuer", ["device", "Test ra"]),
        ("chain", ["device", "Test ra", "pyscep CA"]),
    ],
)
def test_reply_content(
    opened: Any, places: Any, tmp_path: Path, content: str, names: list[str]
) -> None:
    """Cisco's VPN wants the CA in it, Juniper must not get it."""
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
        "endpoint": {"devices": endpoint("/scep", reply_certificates=content)}})
    challenge = site.by_name["devices"].ca.new_challenge()
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=challenge)
    pyscep.run(site.client("devices").enroll(key, csr), site.send)
    sent = site.events[-1].outcome.certificates
    assert [one.subject.rfc4514_string().removeprefix("CN=") for one in sent] == names


def test_other_answers_get_no_certificates(opened: Any, places: Any, tmp_path: Path) -> None:
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
        "endpoint": {"devices": endpoint("/scep", reply_certificates="chain")}})
    certificate = site.enroll("devices")[0]
    identity = pyscep.Identity(certificate, keys.rsa_key("client"))
    found = pyscep.run(
        site.client("devices").get_cert(identity, certificate.serial_number), site.send)
    assert found == certificate
    assert len(site.events[-1].outcome.certificates) == 1
    with pytest.raises(pyscep.EnrollmentRefused):
        site.enroll("devices", challenge="wrong", key_name="other")


def test_capabilities_and_policies(opened: Any, places: Any, tmp_path: Path) -> None:
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
        "endpoint": {
            "plain": endpoint("/plain"),
            "old": endpoint("/old", policy="compatible", renewal=False, empty_content=False),
            "odd": endpoint("/odd", capabilities=["SHA-256", "AES", "POSTPKIOperation"]),
        },
    })

    def caps(name: str) -> Capabilities:
        return Capabilities.parse(site.ask("GET", f"/{name}?operation=GetCACaps")[1])

    assert "SHA-1" not in caps("plain")
    assert caps("plain").renewal
    assert "SHA-1" in caps("old")
    assert not caps("old").renewal
    assert caps("odd").keywords == ("SHA-256", "AES", "POSTPKIOperation")


def test_an_ndes_endpoint(opened: Any, places: Any, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.txt"
    accounts.write_text(account_line("console", "long enough a word") + "\n")
    accounts.chmod(0o600)
    site = opened({
        "ca": {"main": ca(places["ndes"], tmp_path)}, "challenge": ONCE,
        "endpoint": {
            "ndes": endpoint(
                "/certsrv", kind="ndes", challenges=[],
                ndes={"accounts": str(accounts), "registry": {"PasswordMax": 1}}),
            "devices": endpoint("/scep"),
        },
    })
    assert site.by_name["ndes"].path == "/certsrv/mscep/mscep.dll"
    assert site.ask("GET", "/CertSrv/mscep/MSCEP.dll?operation=GetCACaps")[0] == 200
    assert site.ask("GET", "/certsrv/mscep_admin/")[0] == 401
    assert site.ask("GET", "/certsrv/other")[0] == 404
    assert site.enroll("ndes")
    assert site.enroll("devices", key_name="other")


def test_an_ndes_endpoint_that_makes_no_sense(places: Any, tmp_path: Path) -> None:
    config = parse({
        "ca": {"main": ca(places["ndes"], tmp_path)},
        "endpoint": {"ndes": endpoint(
            "/certsrv", kind="ndes", challenges=[], ndes={"registry": {"Nonsense": 1}})}})
    with pytest.raises(ConfigError, match=r"endpoint\.ndes: .*Nonsense"):
        OpenSite(config, Builder(config, tmp_path))


def test_errors_keep_their_table(places: Any, tmp_path: Path) -> None:
    config = parse({
        "ca": {"main": ca(places["ndes"], tmp_path)}, "profile": {"odd": {"san_types": ["x"]}},
        "endpoint": {"ndes": endpoint("/certsrv", kind="ndes", challenges=[], profiles=["odd"])}})
    with pytest.raises(ConfigError, match=r"profile\.odd: 'x' is none") as caught:
        OpenSite(config, Builder(config, tmp_path))
    assert "endpoint.ndes" not in str(caught.value)


def test_trusted_issuers_of_renewals(opened: Any, places: Any, tmp_path: Path) -> None:
    """Migration: certificates of an older CA are renewed at the new endpoint."""
    data = {"ca": {"main": ca(places["plain"], tmp_path)}, "challenge": ONCE,
            "endpoint": {"old": endpoint("/scep")}}
    old = opened(data)
    identity = pyscep.Identity(old.enroll("old")[0], keys.rsa_key("client"))
    new = opened({
        "ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
        "endpoint": {"new": endpoint(
            "/scep", trusted_renewal_issuers=str(places["plain"] / "ca.pem"))}})
    key = keys.rsa_key("renewed")
    flow = new.client("new").renew(identity, key, pyscep.pkcs10.create(key, "CN=device"))
    assert isinstance(pyscep.run(flow, new.send), pyscep.Success)


# --- as an application -----------------------------------------------------------------


class Probe:
    """An endpoint that notes what happens to it."""

    closed = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody asks")

    def close(self) -> None:
        self.closed += 1


def test_lifespan_ends_the_endpoints() -> None:
    probe = Probe()
    app = Endpoints([Route(path="/a", ignore_case=False, app=probe)])
    sent: list[str] = []
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert probe.closed == 1
    with pytest.raises(RuntimeError, match="websocket"):
        asyncio.run(app({"type": "websocket"}, receive, send))


def test_over_http_with_the_command_line(opened: Any, places: Any, tmp_path: Path) -> None:
    site = opened({
        "ca": {"main": ca(places["ra"], tmp_path)}, "challenge": ONCE,
        "endpoint": {"devices": endpoint("/scep")}})
    with listening(site.site.app) as origin:
        certificate = tmp_path / "device.pem"
        done("enroll", f"{origin}/scep", "--fingerprint", site.by_name["devices"].ca.fingerprint,
             "--key", tmp_path / "device.key", "--out", certificate, "--subject", "CN=device",
             "--challenge", site.by_name["devices"].ca.new_challenge())
    assert "CN = device" in openssl("x509", "-in", certificate, "-noout", "-subject")


# --- serve --config, and what operators do ---------------------------------------------


CONFIG = """\
[server]
port = 0

[ca.main]
directory = "{place}"
database = "sqlite:///scep.db"
crl_urls = ["http://pki.example/crl"]

[profile.device]
approval = "manual"

[challenge.once]
kind = "one-time"

[endpoint.devices]
path = "/scep"
ca = "main"
profiles = ["device"]
challenges = ["once"]

[endpoint.phones]
path = "/phones"
ca = "main"
profiles = ["device"]
challenges = ["once"]
policy = "compatible"
"""


@pytest.fixture
def config_file(places: Any, tmp_path: Path) -> Path:
    path = tmp_path / "scep.toml"
    path.write_text(CONFIG.replace("{place}", str(places["ra"])))
    return path


def stop_when_ready(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    """Do something once the server is ready, and then stop it."""
    real = http_server.make_server

    def make(app: Any, *, on_ready: Any = None, **more: Any) -> Any:
        def ready() -> None:
            on_ready()
            threading.Thread(target=act).start()

        def act() -> None:
            try:
                (listener,) = server.servers[0].sockets
                work(listener.getsockname()[1])
            finally:
                server.should_exit = True

        server = real(app, on_ready=ready, **more)
        return server

    monkeypatch.setattr(http_server, "make_server", make)


@pytest.mark.parametrize("as_json", [True, False])
def test_serve(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    seen: list[Any] = []

    def work(port: int) -> None:
        client = pyscep.Client(f"http://127.0.0.1:{port}/phones", trust_on_first_use=True)
        sender = pyscep.urllib_sender(timeout=20)
        key = keys.rsa_key("client")
        csr = pyscep.pkcs10.create(key, "CN=device", challenge_password="wrong")
        seen.append(pyscep.run(client.get_ca_caps(), sender))
        with pytest.raises(pyscep.EnrollmentRefused):
            pyscep.run(client.enroll(key, csr), sender)

    stop_when_ready(monkeypatch, work)
    found = invoke("serve", "--config", config_file, *(["--json"] if as_json else []))
    assert found.exit_code == 0, found.stderr
    assert "SHA-1" in seen[0]
    if as_json:
        ready = json.loads(found.stdout)
        assert [one["name"] for one in ready["endpoints"]] == ["devices", "phones"]
        assert ready["endpoints"][0]["url"].endswith("/scep")
        assert "warning" in ready["endpoints"][1]
        assert json.loads(found.stderr)["event"] == "answered"
    else:
        assert "Endpoint:     phones" in found.stdout
        assert "Warning:      policy compatible" in found.stdout
        assert " answered " in found.stderr


def test_serve_refuses(config_file: Path, tmp_path: Path) -> None:
    error = failed(2, "serve", "--config", config_file, "--policy", "legacy", "--allow-anyone")
    assert error["message"] == (
        "--allow-anyone, --policy: say that in the configuration instead")
    with http_server.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        error = failed(2, "serve", "--config", config_file, "--port", port, "--host", "127.0.0.1")
    assert error["code"] == "address"
    broken = config_file.read_text().replace("one-time", "static\"\nsecret.env = \"NOT_SET")
    config_file.write_text(broken)
    error = failed(2, "serve", "--config", config_file)
    assert error["code"] == "config"
    assert "challenge.once: the environment variable NOT_SET" in error["message"]


def test_operators_say_which_endpoint(config_file: Path, tmp_path: Path) -> None:
    where = ("--config", config_file)
    assert "--endpoint devices or phones" in failed(2, "challenge", *where)["message"]
    assert "no endpoint 'x'" in failed(2, "challenge", *where, "--endpoint", "x")["message"]
    assert "goes with --config" in failed(2, "pending", "--endpoint", "x")["message"]
    phones = (*where, "--endpoint", "phones")
    (challenge,) = done("challenge", *phones)["challenges"]
    config = parse(_tables(config_file))
    with OpenSite(config, Builder(config, tmp_path)) as site:
        key = keys.rsa_key("client")
        csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=challenge)
        phone = site.endpoints[1]
        client = pyscep.Client("http://a/phones", ca_fingerprint=phone.ca.fingerprint)
        server = phone.ca.server()
        flow = client.enroll(key, csr)
        assert isinstance(
            pyscep.run(flow, lambda request: server.handle(request, phone.ca)),
            pyscep.PendingEnrollment)
    assert done("pending", *where, "--endpoint", "devices")["pending"] == []
    (waiting,) = done("pending", *phones)["pending"]
    done("pending", "approve", waiting["id"], *phones)
    config_file.write_text(config_file.read_text().replace("one-time", "static\"\nsecret.env=\"NO"))
    assert failed(2, "pending", *phones)["code"] == "config"


def test_one_endpoint_needs_no_name(config_file: Path) -> None:
    text = config_file.read_text()
    config_file.write_text(text[: text.index("[endpoint.phones]")])
    assert done("challenge", "--config", config_file)["challenges"]


def _tables(path: Path) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(path.read_text())
