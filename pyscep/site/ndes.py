"""An endpoint that looks like NDES, the SCEP server of Windows: addresses, pages, habits.

For consoles and devices that were set up for NDES and are to notice no difference. One ASGI
application; it may be mounted anywhere, and answers in any case of letters:

* ``/certsrv/mscep/mscep.dll`` and ``.../pkiclient.exe``: SCEP; a page, or 403, without operation
* ``/certsrv/mscep_admin/``: the page with the enrollment password
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from html import escape
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.adapters.asgi import Receive, ScepApp, Scope, Send
from pyscep.ca import CertificateAuthority, ChallengeProvider, ChallengeRequest, Granted, Refused
from pyscep.ca import directory as ca_directory
from pyscep.ca.challenge import Notification, utc_now
from pyscep.ca.password_cache import PasswordCache
from pyscep.ca.profile import Profile
from pyscep.ca.store import Store
from pyscep.capabilities import Capabilities
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.errors import DecodeError
from pyscep.events import ServerEvent
from pyscep.http import text_response
from pyscep.pkcs10 import CertificateRequest
from pyscep.server import Authority, Server
from pyscep.site import ndes_pages as pages
from pyscep.site.ndes_admin import AdminPage, Authenticate, Throttle, ndes_page
from pyscep.site.ndes_registry import NdesSettings
from pyscep.site.reply import not_found, path_of, send_response

NDES_CAPABILITIES: Final = Capabilities(
    keywords=("POSTPKIOperation", "Renewal", "SHA-512", "SHA-256", "SHA-1", "DES3")
)
"""What NDES announces. Neither AES nor SCEPStandard, though both work here."""


class NdesApp:
    """The look-alike as one ASGI application; see the module.

    Args:
        scep: answers the SCEP requests, such as the ScepApp of ``ndes_scep``.
        settings: of the look-alike.
        admin: the page with the password; None: there is none.
    """

    def __init__(
        self, scep: ScepApp, *, settings: NdesSettings | None = None, admin: AdminPage | None = None
    ) -> None:
        self._scep = scep
        self._settings = settings or NdesSettings()
        self._admin = admin
        root, directory = map(re.escape, (self._settings.root, self._settings.admin_directory))
        self._devices = re.compile(
            # Windows appends pkiclient.exe to whatever URL it was given, even to this one.
            rf"{root}/mscep(/mscep\.dll)?(/pkiclient\.exe)*/?",
            re.IGNORECASE | re.ASCII,
        )
        self._passwords = re.compile(
            rf"{root}/{directory}(/mscep\.dll)?/?", re.IGNORECASE | re.ASCII
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            await self._scep(scope, receive, send)
            return
        path = path_of(scope)
        if self._passwords.fullmatch(path) and self._admin is not None:
            await self._admin(scope, receive, send)
        elif not self._devices.fullmatch(path):
            await send_response(scope, send, not_found())
        elif scope["method"] in ("GET", "HEAD") and not scope["query_string"]:
            await self._plain(scope, send)
        else:
            await self._scep(scope, receive, send)

    def close(self) -> None:
        """End the threads that answer SCEP requests."""
        self._scep.close()

    async def _plain(self, scope: Scope, send: Send) -> None:
        """A GET without operation: somebody looks whether NDES is there."""
        if self._settings.plain_get == "forbidden":
            response = text_response(403, "403 - Forbidden: Access is denied.\n")
        else:
            response = ndes_page(self._settings, 200, pages.information_page(self._link(scope)))
        await send_response(scope, send, response)

    def _link(self, scope: Scope) -> str | None:
        if self._admin is None:
            return None
        mounted = str(scope.get("root_path", "")).rstrip("/")
        return escape(f"{mounted}{self._settings.root}/{self._settings.admin_directory}/")


class Templates:
    """NDES's choice of a profile by the key usage that a request asks for.

    What the challenge itself says about the profile comes first.

    Args:
        provider: checks the challenges.
        settings: name the profiles.
        profiles: that the CA has.

    Raises:
        ValueError: a profile that the CA does not have.
    """

    def __init__(
        self, provider: ChallengeProvider, settings: NdesSettings, profiles: Iterable[str]
    ) -> None:
        known = tuple(profiles)
        for name in settings.templates:
            if name is not None and name not in known:
                raise ValueError(f"the template {name!r} is no profile: there are {known}")
        self._provider = provider
        self._settings = settings

    @property
    def scheme(self) -> str:
        """The provider's."""
        return self._provider.scheme

    @property
    def notifies(self) -> bool:
        """The provider's."""
        return self._provider.notifies

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        """The provider's."""
        return self._provider.generate(
            subject=subject, sans=sans, profile=profile, lifetime=lifetime
        )

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        """The provider's verdict, with the profile for the request's key usage."""
        verdict = self._provider.verify(request)
        if isinstance(verdict, Refused) or verdict.profile is not None:
            return verdict
        try:
            return replace(verdict, profile=template_for(request.csr, self._settings))
        except DecodeError as error:
            return Refused(reason=f"extensions of the request: {error}")

    def notify(self, notification: Notification) -> None:
        """The provider's."""
        self._provider.notify(notification)


def template_for(csr: CertificateRequest, settings: NdesSettings) -> str | None:
    """The profile for the key usage of a request; None is the CA's first.

    Raises:
        DecodeError: extensions that can't be read.
    """
    signature, encryption, general = settings.templates
    try:
        usage = csr.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return general
    match usage.digital_signature, usage.key_encipherment:
        case True, False:
            return signature
        case False, True:
            return encryption
        case _:
            return general


def ndes_challenges(
    store: Store,
    settings: NdesSettings,
    profiles: Iterable[str] = (),
    *,
    provider: ChallengeProvider | None = None,
    now: Callable[[], datetime] = utc_now,
    token_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> ChallengeProvider:
    """The password cache that the settings describe, for a CertificateAuthority.

    Args:
        store: of the CA.
        settings: of the look-alike.
        profiles: names of the CA's profiles, which the templates are chosen from.
        provider: other challenges than those of the cache.
        now: the clock.
        token_bytes: the source of randomness.

    Raises:
        ValueError: a template that is no profile.
    """
    if provider is None:
        provider = PasswordCache(
            store,
            size=settings.password_max,
            lifetime=settings.password_validity,
            length=settings.password_length,
            single=settings.single_password,
            now=now,
            token_bytes=token_bytes,
        )
    return Templates(provider, settings, profiles) if any(settings.templates) else provider


def ndes_profiles(profiles: Sequence[Profile], settings: NdesSettings) -> tuple[Profile, ...]:
    """The profiles as EnforcePassword wants them; at least one, the default one."""
    found = tuple(profiles) or (Profile(),)
    if settings.enforce_password:
        return found
    return replace(found[0], challenge="optional"), *found[1:]


def ndes_app(
    ca: CertificateAuthority,
    settings: NdesSettings,
    *,
    authenticate: Authenticate | None,
    server: Server | None = None,
    authority: Authority | None = None,
    on_event: Callable[[ServerEvent], None] | None = None,
    throttle: Throttle | None = None,
    max_pending: int = 256,
) -> NdesApp:
    """The look-alike in front of a CA.

    Args:
        ca: whose ``new_challenge`` makes the passwords, such as that of ``open_ndes``.
        settings: of the look-alike.
        authenticate: who gets passwords; None: nobody, there is no page.
        server: instead of one of the CA's with the settings' policy and capabilities.
        authority: instead of the CA alone.
        on_event: told about each SCEP request, where ``server`` is not given.
        throttle: slows down guessing at the page.
        max_pending: as for ScepApp.
    """
    if server is None:
        server = ca.server(
            AlgorithmPolicy.named(settings.policy),
            capabilities=NDES_CAPABILITIES if settings.ndes_capabilities else None,
            on_event=on_event,
        )
    admin = None
    if authenticate is not None:
        certificate = ca.issuer.certificate.public_bytes(Encoding.DER)
        admin = AdminPage(authenticate, ca.new_challenge, certificate, settings, throttle=throttle)
    scep = ScepApp(server, authority or ca, max_pending=max_pending)
    return NdesApp(scep, settings=settings, admin=admin)


def open_ndes(
    directory: str | os.PathLike[str],
    settings: NdesSettings,
    *,
    profiles: Sequence[Profile] = (),
    password: bytes | None = None,
    now: Callable[[], datetime] = utc_now,
) -> CertificateAuthority:
    """The CA of a directory with NDES's passwords; made first, with NDES's RA certificates.

    Args:
        directory: where it is.
        settings: of the look-alike.
        profiles: what is issued; the first is the default.
        password: of the key files.
        now: the clock.

    Raises:
        ValueError: settings that don't fit together, or a key file that can't be used.
        OSError: the directory can't be read or made.
    """
    if not ca_directory.exists(directory):
        CertificateAuthority.load_or_create(
            directory, topology="ndes", password=password, now=now
        ).close()
    found = ca_directory.load(directory, password=password)
    chosen = ndes_profiles(profiles, settings)
    store = Store(ca_directory.database_url(directory))
    try:
        names = [profile.name for profile in chosen]
        return CertificateAuthority(
            store=store,
            issuer=found.ca,
            recipient=found.recipient,
            encryption=found.encryption,
            profiles=chosen,
            challenge=ndes_challenges(store, settings, names, now=now),
            redelivery=settings.cache_request,
            now=now,
        )
    except ValueError:
        store.close()
        raise
