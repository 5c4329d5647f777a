"""The NDES look-alike: addresses, pages as their readers cut them up, passwords, devices."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import Request, urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import CertificateAuthority, Profile
from pyscep.ca.creation import REQUEST_AGENT
from pyscep.capabilities import Capabilities
from pyscep.http import HttpResponse
from pyscep.site import ndes_pages, passwords
from pyscep.site.ndes import (
    NDES_CAPABILITIES,
    Templates,
    ndes_app,
    ndes_challenges,
    open_ndes,
    template_for,
)
from pyscep.site.ndes_admin import AdminPage, Throttle, read_basic
from pyscep.site.ndes_registry import NdesSettings, from_registry
from tests import devices
from tests import forge_keys as keys
from tests.asgi_call import acall, call
from tests.ca_setting import Clock
from tests.cli_lab import listening
from tests.realm import party_of

SCEP = "/certsrv/mscep/mscep.dll"
ADMIN = "/certsrv/mscep_admin/"
LOGIN = {"authorization": "Basic " + base64.b64encode("LAB\\ada:pässword".encode()).decode()}


def authenticate(name: str, password: str) -> Any:
    """ada may have passwords, bob may not."""
    if password != "pässword":
        return "unknown"
    return {"LAB\\ada": "allowed", "LAB\\bob": "forbidden"}.get(name, "unknown")


@pytest.fixture(scope="module", autouse=True)
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA that the others are copies of: keys take long to make."""
    Site.template = tmp_path_factory.mktemp("template") / "ca"
    open_ndes(Site.template, NdesSettings(), now=Clock()).close()
    return Site.template


class Site:
    """An NDES look-alike on a directory of its own."""

    template: ClassVar[Path]

    def __init__(self, path: Path, *, profiles: Any = (), **settings: Any) -> None:
        self.clock = Clock()
        self.settings = NdesSettings(**settings)
        shutil.copytree(self.template, path / "ca")
        self.ca = open_ndes(path / "ca", self.settings, profiles=profiles, now=self.clock)
        self.events: list[Any] = []
        self.app = ndes_app(
            self.ca, self.settings, authenticate=authenticate, on_event=self.events.append,
            throttle=Throttle(seconds=0))

    def page(self, **more: Any) -> str:
        """The page with the password."""
        response = call(self.app, ADMIN, headers=LOGIN, **more)
        assert response.status == 200
        return response.body.decode(self.settings.encoding)

    def enroll(self, challenge: str | None, **more: Any) -> Any:
        """Enroll by this package's own client; the outcome."""
        key = more.pop("key", None) or keys.rsa_key("client")
        csr = pyscep.pkcs10.create(key, "CN=device", challenge_password=challenge, **more)
        client = pyscep.Client(
            f"http://ndes.test{SCEP}", ca_fingerprint=self.ca.fingerprint, now=self.clock,
            policy=pyscep.COMPATIBLE)
        return pyscep.run(client.enroll(key, csr), self.send)

    def send(self, request: Any) -> HttpResponse:
        return call(self.app, request.path, method=request.method, query=request.query,
                    headers=dict(request.headers), body=request.body)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.app.close()
    found.ca.close()


# --- how readers cut the password out -------------------------------------------------


def by_label(page: bytes) -> str:
    """A regular expression on the label, a space, the tag, a space."""
    text = page.decode("utf-16-le")
    match = re.search(r"(?i)The enrollment challenge password is: <B> (?P<password>\S*)", text)
    assert match
    return match["password"]


def by_tags(page: bytes) -> str:
    """Cut at each `>`: the label must begin at the second character of its piece."""
    pieces = page.decode("utf-16").split(">")
    starts = [n for n, piece in enumerate(pieces)
              if piece.find("The enrollment challenge password is: <B") == 1]
    (start,) = starts
    return pieces[start + 1].strip("</B").strip()


def by_words(page: bytes) -> str:
    """The first word that begins with 16 hexadecimal digits, in any case."""
    words = page.decode("utf-16-le").split()
    return next(word for word in words if re.match(r"(?i)[A-F0-9]{16}", word))


def by_first_digits(page: bytes) -> str:
    """The first run of digits behind the first "challenge password"."""
    match = re.search(
        r"(?is)challenge password.*?([0-9A-Fa-f]{8,64})", page.decode("utf-16-le"))
    assert match
    return match[1]


def by_last_tag(page: bytes) -> str:
    """From the label to the last closing tag of the page."""
    text = page.decode("utf-16")
    start = "password is: <B> "
    return text[text.find(start) + len(start):text.rfind("</B>")].strip()


def by_charset(page: bytes) -> str:
    """Try one charset after the other until the label is there."""
    for charset in ("utf-16-be", "utf-8", "ascii", "utf-16-le"):
        text = page.decode(charset, "replace")
        if "The enrollment challenge password is" in text:
            return text.partition("password is: <B> ")[2].partition(" ")[0]
    raise AssertionError("in no charset")


READERS = (by_label, by_tags, by_words, by_first_digits, by_last_tag, by_charset)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("single", [False, True])
def test_readers_find_the_password(read: Any, single: bool) -> None:
    """INTUNE.md C: each of the ways in which consoles read the page."""
    certificate = keys.ca().der
    page = ndes_pages.password_page(
        ndes_pages.thumbprint(certificate), "0123456789ABCDEF", None if single else 60)
    assert read(ndes_pages.encode(page, "utf-16-le")) == "0123456789ABCDEF"


def test_page_says_how_long_the_password_lasts() -> None:
    page = ndes_pages.password_page("AA BB", "00", 60)
    assert "can be used only once and will expire within 60 minutes." in page
    # One reader takes what stands between the first and the last of these.
    start = page.find("will expire within ") + len("will expire within ")
    assert page[start:page.rfind(" minutes")] == "60"
    assert "will not expire" in ndes_pages.password_page("AA BB", "00", None)


def test_thumbprint_is_md5_in_groups_of_eight() -> None:
    shown = ndes_pages.thumbprint(b"certificate")
    assert re.fullmatch(r"[0-9A-F]{8}( [0-9A-F]{8}){3}", shown)
    assert shown.replace(" ", "") == hashlib.md5(b"certificate").hexdigest().upper()


def test_page_in_each_encoding(tmp_path: Path) -> None:
    """UTF-16LE without mark by default, as NDES; both others on request."""
    for settings, charset, begins in (
        ({}, "utf-16le", b"<\0H\0"),
        ({"byte_order_mark": True}, "utf-16", b"\xff\xfe<\0"),
        ({"encoding": "utf-8"}, "utf-8", b"<HTML>"),
        ({"encoding": "utf-8", "byte_order_mark": True}, "utf-8", b"<HTML>"),
    ):
        site = Site(tmp_path / charset / str(len(settings)), **settings)
        response = call(site.app, ADMIN, headers=LOGIN)
        assert response.header("content-type") == f"text/html; charset={charset}"
        assert response.body.startswith(begins)
        assert "Network Device Enrollment Service" in response.body.decode(charset)
        site.app.close()
        site.ca.close()


# --- addresses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        SCEP, f"{SCEP}/", f"{SCEP}/pkiclient.exe", f"{SCEP}/pkiclient.exe/pkiclient.exe",
        "/CertSrv/MSCEP/mscep.DLL/PKIclient.exe", "/certsrv/mscep", "/certsrv/mscep/",
    ],
)
def test_devices_find_it_in_any_case(site: Site, path: str) -> None:
    """INTUNE.md C: IIS compares paths without case; Windows appends pkiclient.exe."""
    caps = call(site.app, path, query=b"operation=GetCACaps&message=default")
    assert (caps.status, caps.header("content-type")) == (200, "text/plain")
    assert "POSTPKIOperation" in Capabilities.parse(caps.body)
    page = call(site.app, path)
    assert page.status == 200
    text = page.body.decode("utf-16-le")
    assert "Network Device Enrollment Service" in text
    assert '"/certsrv/mscep_admin/"' in text


@pytest.mark.parametrize(
    "path", ["/", "/certsrv", "/certsrv/mscepx", "/certsrv/mscep/other.dll", "/cert\u017frv/mscep/",
             "/x/certsrv/mscep/mscep.dll", f"{SCEP}/pkiclient.exe/more", "/certsrv/mscep_adminx"])
def test_other_addresses_are_404(site: Site, path: str) -> None:
    assert call(site.app, path, query=b"operation=GetCACaps", headers=LOGIN).status == 404


@pytest.mark.parametrize("path", [f"/pki{SCEP}", SCEP])
def test_mounted_below_a_path(site: Site, path: str) -> None:
    """Servers and frameworks differ in whether `path` has `root_path` in it."""
    page = call(site.app, path, root_path="/pki")
    assert page.status == 200
    assert '"/pki/certsrv/mscep_admin/"' in page.body.decode("utf-16-le")


def test_plain_get_can_be_403(tmp_path: Path) -> None:
    """INTUNE.md C: with Intune's policy module 403 is right and 200 a fault."""
    site = Site(tmp_path, plain_get="forbidden")
    assert call(site.app, SCEP).status == 403
    assert call(site.app, SCEP, method="HEAD").status == 403
    assert call(site.app, SCEP, query=b"operation=GetCACaps").status == 200
    site.app.close()
    site.ca.close()


def test_head_has_the_header_of_the_page_alone(site: Site) -> None:
    head, page = (call(site.app, SCEP, method=method) for method in ("HEAD", "GET"))
    assert (head.status, head.headers, head.body) == (200, page.headers, b"")


def test_without_admin_page(tmp_path: Path) -> None:
    settings = NdesSettings()
    with open_ndes(tmp_path / "ca", settings) as ca:
        app = ndes_app(ca, settings, authenticate=None)
        assert call(app, ADMIN, headers=LOGIN).status == 404
        assert "mscep_admin" not in call(app, SCEP).body.decode("utf-16-le")
        app.close()


def test_admin_directory_and_root_can_have_other_names(tmp_path: Path) -> None:
    """PasswordVDir."""
    site = Site(tmp_path, root="/pki", admin_directory="secret")
    assert call(site.app, "/PKI/Secret/", headers=LOGIN).status == 200
    assert call(site.app, ADMIN, headers=LOGIN).status == 404
    assert call(site.app, "/pki/mscep/mscep.dll", query=b"operation=GetCACaps").status == 200
    site.app.close()
    site.ca.close()


def test_other_scopes_go_to_the_scep_application(site: Site) -> None:
    sent: list[Any] = []

    async def talk() -> None:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await site.app({"type": "lifespan"}, receive, send)

    asyncio.run(talk())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# --- the page's door ------------------------------------------------------------------


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Negotiate YII="}, {"authorization": "Basic"},
     {"authorization": "Basic !!"}, {"authorization": "Basic /w=="}, basic("nocolon"),
     basic("a:" + "x" * 4000), basic("LAB\\ada:wrong"), basic("carol:pässword"), basic(":")],
)
def test_nobody_gets_a_password_without_credentials(site: Site, headers: dict[str, str]) -> None:
    response = call(site.app, ADMIN, headers=headers)
    assert response.status == 401
    assert (response.header("www-authenticate") or "").startswith("Basic realm=")
    assert "password is" not in response.body.decode("utf-16-le")
    assert outstanding(site) == 0


def outstanding(site: Site) -> int:
    from pyscep.ca.schema import challenges

    with site.ca.store.read() as connection:
        return len(connection.execute(challenges.select()).all())


def test_account_without_permission(site: Site) -> None:
    """HTTP 200 and the phrase that consoles look for."""
    response = call(site.app, ADMIN, headers=basic("LAB\\bob:pässword"))
    assert response.status == 200
    text = response.body.decode("utf-16-le")
    assert "You do not have sufficient permission to enroll with SCEP." in text
    assert outstanding(site) == 0


def test_scheme_of_authorization_in_any_case() -> None:
    assert read_basic("bAsIc  YTpiOmM=") == ("a", "b:c")
    assert read_basic(None) is None


def test_post_gives_a_password_too(site: Site) -> None:
    """Some scripts post a form."""
    assert "password is: <B> " in site.page(method="POST", body=b"a=b")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "OPTIONS"])
def test_other_methods_use_up_nothing(site: Site, method: str) -> None:
    response = call(site.app, ADMIN, method=method, headers=LOGIN)
    assert (response.status, response.header("allow")) == (405, "GET, POST")
    assert outstanding(site) == 0


def test_another_site_can_not_use_up_passwords(site: Site) -> None:
    """A browser that remembers the credentials, and a page elsewhere that embeds this one."""
    headers = LOGIN | {"sec-fetch-site": "cross-site"}
    assert call(site.app, ADMIN, headers=headers).status == 403
    assert outstanding(site) == 0


def test_page_is_not_kept(site: Site) -> None:
    response = call(site.app, ADMIN, headers=LOGIN)
    assert response.header("cache-control") == "no-store"
    assert response.header("x-frame-options") == "DENY"


def test_faults_are_503(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def broken(name: str, password: str) -> Any:
        raise OSError("the directory is away")

    def full() -> str:
        raise OSError("disk")

    for page in (
        AdminPage(broken, full, b"", NdesSettings()), AdminPage(authenticate, full, b"",
                                                               NdesSettings())):
        response = call(page, ADMIN, headers=LOGIN)
        assert (response.status, response.header("retry-after")) == (503, "30")
    assert "pässword" not in caplog.text


def test_wrong_guesses_wait_longer_and_longer() -> None:
    """SECURITY: per source, so nobody locks out anybody else; reset by the right one."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    throttle = Throttle(seconds=1, most=5, sleep=sleep)

    async def guesses(source: str | None, *results: Any) -> list[Any]:
        return [await throttle.check(source, lambda result=result: result) for result in results]

    asyncio.run(guesses("192.0.2.1", *["unknown"] * 5))
    assert waits == [1, 2, 4, 5, 5]
    asyncio.run(guesses("192.0.2.2", "unknown"))
    assert waits[5:] == [1]
    asyncio.run(guesses("192.0.2.1", "allowed", "unknown"))
    assert waits[6:] == [1]
    # An IPv6 host has a whole /64 to itself; a mapped address is the IPv4 one.
    asyncio.run(guesses("2001:db8::1", "unknown"))
    asyncio.run(guesses("2001:db8::2", "unknown"))
    asyncio.run(guesses("2001:db8:1::2", "unknown"))
    asyncio.run(guesses("::ffff:192.0.2.2", "unknown"))
    asyncio.run(guesses(None, "unknown"))
    assert waits[7:] == [1, 2, 1, 2, 1]


def test_one_guess_of_a_source_at_a_time() -> None:
    """And no more than a few wait; others go on meanwhile."""

    async def scenario() -> None:
        release = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await release.wait()

        throttle = Throttle(waiting=2, sleep=sleep, sources=1)
        checked: list[int] = []

        def guess(number: int) -> Any:
            checked.append(number)
            return "unknown"

        tasks = [asyncio.create_task(throttle.check("a", lambda n=n: guess(n))) for n in range(3)]
        done, _ = await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [None]
        assert await throttle.check("b", lambda: "allowed") == "allowed"
        assert await throttle.check("c", lambda: "allowed") == "allowed"
        assert len(checked) == 1, "the second one waits for its turn"
        release.set()
        assert sorted(map(str, await asyncio.gather(*tasks))) == ["None", "unknown", "unknown"]
        assert len(checked) == 2

    asyncio.run(scenario())


def test_too_many_from_one_address_is_429() -> None:
    async def scenario() -> HttpResponse:
        release = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await release.wait()

        page = AdminPage(authenticate, str, b"", NdesSettings(),
                         throttle=Throttle(waiting=1, sleep=sleep))
        first = asyncio.create_task(acall(page, ADMIN, headers=basic("a:b")))
        await asyncio.sleep(0)
        second = await acall(page, ADMIN, headers=LOGIN)
        release.set()
        assert (await first).status == 401
        return second

    assert asyncio.run(scenario()).status == 429


def test_client_that_leaves_while_posting(site: Site) -> None:
    sent: list[Any] = []

    async def talk() -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": ADMIN, "query_string": b"",
                 "headers": [(b"authorization", LOGIN["authorization"].encode())]}
        await site.app(scope, receive, send)

    asyncio.run(talk())
    assert sent == []
    assert outstanding(site) == 0


# --- passwords ------------------------------------------------------------------------


def password_of(page: str) -> str:
    return by_label(page.encode("utf-16-le"))


def test_password_enrolls_one_device_once(site: Site) -> None:
    page = site.page()
    password = password_of(page)
    assert re.fullmatch(r"[0-9A-F]{16}", password)
    assert "within 60 minutes" in page
    shown = ndes_pages.thumbprint(site.ca.issuer.certificate.public_bytes(Encoding.DER))
    assert f"<B> {shown} </B>" in page
    first = site.enroll(password)
    assert site.enroll(password).certificates == first.certificates, "the same request again"
    with pytest.raises(pyscep.EnrollmentRefused):
        site.enroll(password, key=keys.rsa_key("other"))


def test_password_expires(site: Site) -> None:
    password = password_of(site.page())
    site.clock.pass_by(minutes=61)
    with pytest.raises(pyscep.EnrollmentRefused):
        site.enroll(password)


def test_cache_holds_five(site: Site) -> None:
    """HTTP 200 and the phrase; an enrollment makes room."""
    given = [password_of(site.page()) for _ in range(5)]
    assert len(set(given)) == 5
    assert "The password cache is full." in site.page()
    site.enroll(given[0])
    assert "password is: <B> " in site.page()


def test_without_password_by_default_refused(site: Site) -> None:
    with pytest.raises(pyscep.EnrollmentRefused):
        site.enroll(None)


def test_single_password(tmp_path: Path) -> None:
    """UseSinglePassword: the same for all, for ever; CacheRequest ends a repetition."""
    site = Site(tmp_path, single_password=True, cache_request=timedelta(minutes=3))
    page = site.page()
    assert "will not expire" in page
    password = password_of(page)
    assert password_of(site.page()) == password
    first = site.enroll(password)
    assert site.enroll(password, key=keys.rsa_key("other")).certificates != first.certificates
    site.clock.pass_by(minutes=2)
    assert site.enroll(password).certificates == first.certificates
    site.clock.pass_by(minutes=2)
    assert site.enroll(password).certificates != first.certificates
    site.app.close()
    site.ca.close()


def test_enforce_password_off(tmp_path: Path) -> None:
    """EnforcePassword 0: accepted without a password, and never granted unseen."""
    site = Site(tmp_path, enforce_password=False)
    page = site.page()
    assert "without a password" in page
    assert "password is:" not in page
    pending = site.enroll(None)
    assert isinstance(pending, pyscep.PendingEnrollment)
    (attempt,) = site.ca.pending()
    site.ca.approve(attempt.id)
    assert isinstance(site.enroll(None), pyscep.Success)
    site.app.close()
    site.ca.close()


# --- RA certificates and capabilities -------------------------------------------------


def test_ra_certificates_as_ndes_has_them(site: Site) -> None:
    """INTUNE.md C: one signs, one decrypts; Certificate Request Agent in both."""
    reply = call(site.app, SCEP, query=b"operation=GetCACert&message=default")
    assert reply.header("content-type") == "application/x-x509-ca-ra-cert"
    assert site.ca.recipient is not None
    assert site.ca.encryption is not None
    usages = []
    for identity in (site.ca.recipient, site.ca.encryption):
        extensions = identity.certificate.extensions
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(extended) == [REQUEST_AGENT]
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        usages.append((usage.digital_signature, usage.key_encipherment))
        assert identity.raw.der in reply.body
    assert usages == [(True, False), (False, True)]
    assert REQUEST_AGENT.dotted_string == "1.3.6.1.4.1.311.20.2.1"


def test_other_topologies_have_no_extended_key_usage(tmp_path: Path) -> None:
    with CertificateAuthority.create(tmp_path / "ca", topology="ra-split") as ca:
        assert ca.encryption is not None
        with pytest.raises(x509.ExtensionNotFound):
            ca.encryption.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_capability_list(tmp_path: Path) -> None:
    site = Site(tmp_path, ndes_capabilities=True)
    caps = call(site.app, SCEP, query=b"operation=GetCACaps&message=default")
    assert caps.body == b"POSTPKIOperation\nRenewal\nSHA-512\nSHA-256\nSHA-1\nDES3\n"
    assert Capabilities.parse(caps.body) == NDES_CAPABILITIES
    # What it announces is what works: this client takes triple DES for lack of AES.
    assert isinstance(site.enroll(password_of(site.page())), pyscep.Success)
    site.app.close()
    site.ca.close()


# --- templates ------------------------------------------------------------------------


def usage_of(*names: str) -> dict[str, Any]:
    from pyscep.ca.profile import key_usage

    return {"extensions": [(key_usage(names), True)]}


@pytest.mark.parametrize(
    ("usages", "template"),
    [
        (("digitalSignature",), "Signature"),
        (("digitalSignature", "nonRepudiation"), "Signature"),
        (("keyEncipherment",), "Encryption"),
        (("digitalSignature", "keyEncipherment"), "General"),
        (("keyAgreement",), "General"),
        (None, "General"),
    ],
)
def test_template_by_key_usage(usages: Any, template: str) -> None:
    """Microsoft's table; general purpose where the request says nothing."""
    settings = NdesSettings(signature_template="Signature", encryption_template="Encryption",
                            general_purpose_template="General")
    extra = usage_of(*usages) if usages else {}
    csr = pyscep.pkcs10.create(keys.rsa_key("client"), "CN=device", **extra)
    assert template_for(csr, settings) == template
    assert template_for(csr, NdesSettings()) is None


def test_template_decides_on_the_profile(tmp_path: Path) -> None:
    profiles = (Profile(name="IPSECIntermediateOffline"),
                Profile(name="Sign", key_usage=("digitalSignature",)))
    site = Site(tmp_path, profiles=profiles, signature_template="Sign")
    for extra, profile in ((usage_of("digitalSignature"), "Sign"),
                           ({}, "IPSECIntermediateOffline")):
        site.enroll(password_of(site.page()), **extra)
        assert site.ca.certificates(1)[0].profile == profile
        site.clock.pass_by(minutes=61)
    bound = site.ca.new_challenge(profile="Sign")
    site.enroll(bound)
    assert site.ca.certificates(1)[0].profile == "Sign", "what the challenge says comes first"
    with pytest.raises(pyscep.EnrollmentRefused):
        site.enroll("wrong")
    site.app.close()
    site.ca.close()


def test_extensions_that_can_not_be_read(tmp_path: Path) -> None:
    class Granting:
        scheme = "test"
        notifies = True
        told: Any = None

        def generate(self, **_: Any) -> str:
            return "made"

        def verify(self, request: Any) -> Any:
            return pyscep.ca.Granted(credential="test")

        def notify(self, notification: Any) -> None:
            self.told = notification

    provider = Granting()
    chosen = Templates(provider, NdesSettings(signature_template="a"), ["a"])
    key = keys.rsa_key("client")
    broken = keys.csr(key, "CN=device", attributes=(keys.asn1.seq(
        keys.asn1.oid(keys.EXTENSION_REQUEST), keys.asn1.set_of(keys.asn1.seq(
            keys.extension("2.5.29.15", b"\x04\x00")))),))
    request = type("Asked", (), {"csr": pyscep.pkcs10.read(broken)})()
    refused = chosen.verify(request)
    assert isinstance(refused, pyscep.ca.Refused)
    assert refused.reason.startswith("extensions of the request")
    assert (chosen.scheme, chosen.notifies, chosen.generate()) == ("test", True, "made")
    chosen.notify("told")  # type: ignore[arg-type]  # only passed on
    assert provider.told == "told"


def test_templates_choose_for_other_challenges_too(tmp_path: Path) -> None:
    """A static challenge, and an application in front of a server of one's own."""
    settings = NdesSettings(encryption_template="Encrypt")
    encrypt = Profile(name="Encrypt", key_usage=("keyEncipherment",))
    with open_ndes(tmp_path / "ca", settings, profiles=(Profile(), encrypt)) as opened:
        static = pyscep.ca.StaticChallenge("for-these-tests")
        provider = ndes_challenges(
            opened.store, settings, opened.profiles, provider=static)
        ca = CertificateAuthority(
            store=opened.store, issuer=opened.issuer, profiles=(Profile(), encrypt),
            recipient=opened.recipient, encryption=opened.encryption, challenge=provider)
        seen: list[Any] = []

        def authority(request: Any) -> Any:
            seen.append(request)
            return ca(request)

        app = ndes_app(ca, settings, authenticate=None, server=ca.server(), authority=authority)
        key = keys.rsa_key("client")
        csr = pyscep.pkcs10.create(
            key, "CN=x", challenge_password="for-these-tests", **usage_of("keyEncipherment"))
        client = pyscep.Client(f"http://ndes.test{SCEP}", ca_fingerprint=ca.fingerprint)
        pyscep.run(client.enroll(key, csr), lambda request: call(
            app, request.path, method=request.method, query=request.query, body=request.body))
        assert ca.certificates(1)[0].profile == "Encrypt"
        assert len(seen) == 1
        app.close()


def test_template_that_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'WebServer' is no profile"):
        open_ndes(tmp_path / "ca", NdesSettings(encryption_template="WebServer"))


# --- names of the registry ------------------------------------------------------------


def test_registry_names() -> None:
    r"""`Name`, `Name\Name` and tables, in any case; numbers as .reg files have them."""
    found = from_registry({
        "PasswordMax": {"PasswordMax": 20},
        r"passwordvalidity\PASSWORDVALIDITY": "90",
        "PasswordLength": "dword:0000000a",
        "UseSinglePassword": {"UseSinglePassword": 1},
        r"EnforcePassword\EnforcePassword": True,
        "CacheRequest": 5,
        "PasswordVDir": {"PasswordVDir": r"CertSrv\mscep_secret"},
        "SignatureTemplate": "Sign", "EncryptionTemplate": "Encrypt",
        "GeneralPurposeTemplate": "IPSECIntermediateOffline",
        "CAType": {"CAType": 0}, "Refresh": {"RefreshPeriod": 7},
        r"HashAlgorithm\HashAlgorithm": "SHA256",
    })
    assert found.settings == NdesSettings(
        password_max=20, password_validity=timedelta(minutes=90), password_length=10,
        single_password=True, cache_request=timedelta(minutes=5), admin_directory="mscep_secret",
        signature_template="Sign", encryption_template="Encrypt",
        general_purpose_template="IPSECIntermediateOffline")
    assert found.without_effect == ("CAType", r"Refresh\RefreshPeriod", "HashAlgorithm")


def test_registry_defaults_are_those_of_ndes() -> None:
    settings = from_registry({}).settings
    assert settings == NdesSettings()
    assert (settings.password_max, settings.password_length, settings.policy) == (
        5, 8, "compatible")
    assert settings.password_validity == timedelta(minutes=60)
    assert settings.cache_request == timedelta(minutes=20)
    assert settings.enforce_password
    assert not settings.single_password


def test_registry_keeps_what_it_does_not_name() -> None:
    base = NdesSettings(plain_get="forbidden", password_max=9)
    assert from_registry({"PasswordMax": 7}, base).settings == replace(base, password_max=7)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"PasswordMin": 1}, "PasswordMin is no setting"),
        ({"PasswordMax": 5, r"PasswordMax\PasswordMax": 6}, "is there twice"),
        ({"PasswordMax": "many"}, "a number is needed"),
        ({"PasswordMax": -1}, "a number is needed"),
        ({"PasswordMax": 0}, "1 is the least"),
        ({"PasswordLength": 4}, "8 is the least"),
        ({"PasswordValidity": 0}, "must be positive"),
        ({"PasswordValidity": "dword:ffffffff"}, "more than ten years"),
        ({"EnforcePassword": 2}, "0 or 1"),
        ({"EnforcePassword": None}, "a number is needed"),
        ({"SignatureTemplate": 7}, "a name is needed"),
        ({"PasswordVDir": "mscep"}, "where devices enroll"),
        ({"PasswordVDir": "a b"}, "no name of a directory"),
        ({"Modules": {"Policy": "NDESPlugin"}}, "policy modules of Windows"),
        ({"Modules": "x"}, "policy modules of Windows"),
        ({"UseSinglePassword": 1, "EnforcePassword": 0}, "choose one"),
    ],
)
def test_registry_refuses(values: dict[str, Any], reason: str) -> None:
    """What it can't do it says: a module's refusals must not get lost in silence."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        from_registry(values)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"ndes_capabilities": True, "policy": "modern"}, "refuses"),
        ({"root": "certsrv"}, "no path"),
        ({"cache_request": timedelta(minutes=-1)}, "not negative"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        NdesSettings(**settings)


# --- accounts in a file ---------------------------------------------------------------


def test_account_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    line = passwords.account_line("LAB\\ada", "correct horse battery")
    assert "correct" not in line
    path.write_text(f"# who may enroll\n\n{line}\n")
    path.chmod(0o600)
    accounts = passwords.PasswordFile.read(path)
    assert accounts("LAB\\ada", "correct horse battery") == "allowed"
    for name, password in (
        ("LAB\\ada", "wrong"), ("ada", "correct horse battery"), ("nobody", ""), ("", ""),
        ("LAB\\ada", "x" * 2000),
    ):
        assert accounts(name, password) == "unknown"
    assert passwords.account_line("a", "x" * 12) != passwords.account_line("a", "x" * 12)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no accounts"), (b"ada:secret\n", "line 1: not a hash"),
        (b":$scrypt$\n", "a name of its own"), (b"\xff", "not UTF-8"),
        (b"ada:$scrypt$ln=20,r=8,p=1$" + b"A" * 22 + b"$" + b"A" * 43, "not a hash"),
        (b"ada:$scrypt$ln=14,r=8,p=1$" + b"A" * 25 + b"$" + b"A" * 43, "not base64"),
    ],
)
def test_bad_account_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "accounts"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match=reason):
        passwords.PasswordFile.read(path)


def test_account_file_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.write_text(passwords.account_line("ada", "x" * 12))
    path.chmod(0o644)
    with pytest.raises(ValueError, match="open to every user"):
        passwords.PasswordFile.read(path)


@pytest.mark.parametrize(("name", "password"), [("", "x" * 12), ("a:b", "x" * 12), ("a", "short"),
                                                ("a\n", "x" * 12), ("#a", "x" * 12)])
def test_accounts_that_can_not_be(name: str, password: str) -> None:
    with pytest.raises(ValueError, match="name of an account|12 to"):
        passwords.account_line(name, password)


# --- out of a configuration -----------------------------------------------------------


def test_endpoint_of_a_configuration(tmp_path: Path) -> None:
    """`kind = "ndes"`, with names of the registry and a file of accounts."""
    pytest.importorskip("pydantic", reason="comes with the extra serve")
    from pyscep.site.building import Builder
    from pyscep.site.checking import check
    from pyscep.site.config import parse
    from pyscep.site.endpoints import OpenSite

    CertificateAuthority.create(tmp_path / "ca", topology="ndes").close()
    accounts = tmp_path / "accounts"
    accounts.write_text(passwords.account_line("ada", "correct horse battery"))
    accounts.chmod(0o600)
    announced = ("POSTPKIOperation", "SHA-256")
    config = parse({
        "ca": {"main": {"directory": "ca", "crl_urls": ["http://scep.test/crl/main.crl"]}},
        "endpoint": {"devices": {
            "kind": "ndes", "path": "/certsrv", "ca": "main", "profiles": ["device"],
            "capabilities": announced, "reply_certificates": "issued+issuer",
            "ndes": {"accounts": "accounts", "encoding": "utf-8", "registry": {
                "PasswordMax": {"PasswordMax": 1}, "SignatureTemplate": "device",
                "CAType": 0}}}}})
    found = check(config, Builder(config, tmp_path))
    assert [(one.level, one.key) for one in found if "registry" in one.key] == [
        ("warning", "endpoint.devices.ndes.registry.CAType")]
    assert not [one for one in found if one.level == "error"]
    with OpenSite(config, Builder(config, tmp_path)) as site:
        (endpoint,) = site.endpoints
        assert endpoint.path == SCEP
        caps = call(site.app, "/CertSrv/MSCEP/mscep.dll", query=b"operation=GetCACaps")
        assert Capabilities.parse(caps.body).keywords == announced
        login = basic("ada:correct horse battery")
        page = call(site.app, "/CERTSRV/mscep_admin/", headers=login).body.decode()
        password = by_label(page.encode("utf-16-le"))
        assert b"cache is full" in call(site.app, ADMIN, headers=login).body
        key = keys.rsa_key("client")
        csr = pyscep.pkcs10.create(key, "CN=x", challenge_password=password)
        client = pyscep.Client(f"http://ndes.test{SCEP}", ca_fingerprint=endpoint.ca.fingerprint)
        outcome = pyscep.run(client.enroll(key, csr), lambda request: call(
            site.app, request.path, method=request.method, query=request.query,
            body=request.body))
        assert isinstance(outcome, pyscep.Success)
        assert endpoint.ca.issuer.certificate in outcome.certificates
        crl = call(site.app, "/crl/main.crl")
        assert crl.header("content-type") == "application/pkix-crl"


# --- a device, over HTTP --------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.parametrize("throw_away_key", [False, True])
def test_windows_enrolls_with_a_scraped_password(tmp_path: Path, throw_away_key: bool) -> None:
    """Console: fetch page, cut out password. Windows: caps, certificates, PKCSReq, by HTTP."""
    settings = NdesSettings(ndes_capabilities=True)
    with (
        open_ndes(tmp_path / "ca", settings) as ca,
        listening(ndes_app(ca, settings, authenticate=authenticate)) as origin,
    ):
        page = urlopen(Request(f"{origin}/CertSrv/mscep_admin/", headers=LOGIN), timeout=20)
        password = by_tags(page.read())
        assert ca.recipient is not None
        assert ca.encryption is not None
        device = replace(
            devices.windows(throw_away_key=throw_away_key, challenge=password),
            path=f"{SCEP}/pkiclient.exe")
        host, port = origin.removeprefix("http://").split(":")
        address = (host, int(port))
        caps = devices.over_the_wire(device.plain("GetCACaps"), address)
        assert caps.body.startswith(b"POSTPKIOperation\n")
        bag = devices.over_the_wire(device.plain("GetCACert"), address)
        assert ca.encryption.raw.der in bag.body
        sent = device.message(party_of(ca.encryption))
        reply = devices.over_the_wire(device.http(sent.build()), address)
        certificate = device.certificate(
            reply, sent, party_of(ca.recipient), party_of(ca.encryption))
        certificate.verify_directly_issued_by(ca.issuer.certificate)
