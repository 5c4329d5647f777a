"""CRLs and CA certificates over HTTP, for whoever checks certificates (RFC 5280, RFC 2585).

* ``/crl/<name>.crl``: the current CRL, ``application/pkix-crl``
* ``/aia/<name>.cer``: the CA's certificate, ``application/pkix-cert``

These are the addresses for ``crl_urls`` and ``issuer_urls`` of an Issuer. They are http, not
https: checking a server's certificate must not need another check first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.adapters.asgi import Receive, Scope, Send
from pyscep.ca.challenge import utc_now
from pyscep.http import HttpResponse
from pyscep.site.reply import (
    header_of,
    lifespan,
    not_allowed,
    not_found,
    path_of,
    send_response,
    unavailable,
)

_logger = logging.getLogger("pyscep.site")

MEDIA_CRL: Final = "application/pkix-crl"
MEDIA_CERTIFICATE: Final = "application/pkix-cert"
MAX_AGE: Final = timedelta(hours=1)
"""How long a cache may keep a CRL: as long, a revocation may stay unknown behind it."""
CERTIFICATE_AGE: Final = timedelta(days=1)
_METHODS: Final = ("GET", "HEAD")
_PATH: Final = re.compile(r"/(crl|aia)/([\w.~-]+)\.(crl|cer|crt)", re.ASCII)


class Published(Protocol):
    """What is published of a CA; a CertificateAuthority has it."""

    @property
    def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The CA's certificate first."""

    def crl(self) -> bytes:
        """The current CRL, DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What can be fetched, and how long it is good for."""

    body: bytes = field(repr=False)
    media_type: str
    modified: datetime
    ends: datetime
    """nextUpdate, or notAfter."""
    tag: str
    max_age: timedelta

    @classmethod
    def of(
        cls,
        body: bytes,
        *,
        media_type: str,
        modified: datetime,
        ends: datetime,
        max_age: timedelta,
    ) -> _Document:
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return cls(
            body=body,
            media_type=media_type,
            modified=modified,
            ends=ends,
            tag=tag,
            max_age=max_age,
        )

    def response(self, scope: Scope, now: datetime) -> HttpResponse:
        """The answer to GET or HEAD: whole, or 304 for who has it already."""
        age = max(timedelta(0), min(self.max_age, self.ends - now))
        headers = (
            ("etag", self.tag),
            ("last-modified", format_datetime(self.modified, usegmt=True)),
            ("cache-control", f"public, max-age={int(age.total_seconds())}, must-revalidate"),
            ("expires", format_datetime(now + age, usegmt=True)),
        )
        if self._is_known(scope):
            return HttpResponse(status=304, headers=headers)
        whole = (
            ("content-type", self.media_type),
            ("content-length", str(len(self.body))),
            ("x-content-type-options", "nosniff"),
            *headers,
        )
        return HttpResponse(status=200, headers=whole, body=self.body)

    def _is_known(self, scope: Scope) -> bool:
        """Whether the client's copy is this one (RFC 9110 section 13.2.2)."""
        tags = header_of(scope, b"if-none-match")
        if tags is not None:
            known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
            return "*" in known or self.tag in known
        since = _http_date(header_of(scope, b"if-modified-since"))
        return since is not None and self.modified.replace(microsecond=0) <= since


class Publication:
    """An ASGI application that publishes CRLs and CA certificates.

    Args:
        issuers: CAs by the name that they have in the addresses.
        max_age: how long a cache may keep a CRL, at most until its nextUpdate.
        now: the clock.

    Raises:
        ValueError: a name that can't stand in an address.
    """

    def __init__(
        self,
        issuers: Mapping[str, Published],
        *,
        max_age: timedelta = MAX_AGE,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        for name in issuers:
            if not re.fullmatch(r"[\w.~-]+", name, re.ASCII):
                raise ValueError(f"{name!r} can't be part of an address")
        self._issuers = dict(issuers)
        self._max_age = max_age
        self._now = now
        self._crls: dict[str, _Document] = {}
        self._certificates = {
            name: _certificate_document(issuer.ca_certificates[0])
            for name, issuer in issuers.items()
        }

    def answers(self, path: str) -> bool:
        """Whether a path is of one of the published documents."""
        return self._find(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "http":
            await send_response(scope, send, await self._answer(scope))
        else:
            raise RuntimeError(f"Publication knows no ASGI scope of type {scope['type']!r}")

    async def _answer(self, scope: Scope) -> HttpResponse:
        found = self._find(path_of(scope))
        if found is None:
            return not_found()
        if scope["method"] not in _METHODS:
            return not_allowed(_METHODS)
        kind, name = found
        if kind == "aia":
            return self._certificates[name].response(scope, self._now())
        try:
            document = await asyncio.to_thread(self._crl, name)
        except Exception:  # the store is gone, or the key; the log gets the traceback
            _logger.exception("there is no CRL of %s", name)
            return unavailable()
        return document.response(scope, self._now())

    def _find(self, path: str) -> tuple[Literal["crl", "aia"], str] | None:
        match = _PATH.fullmatch(path)
        if match is None or match[2] not in self._issuers:
            return None
        if match[1] == "crl":
            return ("crl", match[2]) if match[3] == "crl" else None
        return ("aia", match[2]) if match[3] != "crl" else None

    def _crl(self, name: str) -> _Document:
        """The current CRL; it is parsed once, however often it is fetched."""
        body = self._issuers[name].crl()
        known = self._crls.get(name)
        if known is not None and known.body == body:
            return known
        crl = x509.load_der_x509_crl(body)
        document = _Document.of(
            body,
            media_type=MEDIA_CRL,
            modified=crl.last_update_utc,
            ends=crl.next_update_utc or crl.last_update_utc,
            max_age=self._max_age,
        )
        self._crls[name] = document
        return document


def _certificate_document(certificate: x509.Certificate) -> _Document:
    return _Document.of(
        certificate.public_bytes(Encoding.DER),
        media_type=MEDIA_CERTIFICATE,
        modified=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        max_age=CERTIFICATE_AGE,
    )


def _http_date(value: str | None) -> datetime | None:
    """A date of HTTP; None for none, and for what is no date."""
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
