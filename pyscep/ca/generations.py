"""The CAs that take turns in one authority: the present one, the next one, those before.

RFC 8894 sections 2.2, 4.7 and 5.1. A client shows which CA it wants by the certificate that it
encrypts its request to. The next CA issues ahead of the change; a CA that has been followed by
another one issues nothing new, but what it issued is still delivered, renewed, revoked and
listed in its own CRL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from pyscep.ca import names
from pyscep.ca.issuer import Issuer
from pyscep.identity import X509_FAULTS, Identity, RawCertificate
from pyscep.lazy import lazy


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One CA, with those who talk to clients for it.

    Raises:
        ValueError: an RA for encryption without one that signs.
    """

    issuer: Issuer
    recipient: Identity | None = None
    """The RA; None: the CA talks to clients with its own key."""
    encryption: Identity | None = None
    """A second RA that requests are encrypted to."""
    name: str = "ca"
    """What it is called in the addresses of its CRL and certificate."""

    def __post_init__(self) -> None:
        if self.encryption is not None and self.recipient is None:
            raise ValueError("an RA for encryption needs an RA that signs: give recipient")

    @property
    def decrypts(self) -> Identity:
        """Requests for this CA are encrypted to it."""
        return self.encryption or self.recipient or self.issuer.identity

    @property
    def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The CA's certificate, then its chain."""
        return self.issuer.certificate, *self.issuer.identity.chain

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """What a client needs of it: the CA's certificate first, its RAs', its chain."""
        agents = (one.certificate for one in (self.recipient, self.encryption) if one is not None)
        return tuple(dict.fromkeys((self.issuer.certificate, *agents, *self.ca_certificates)))


# No slots: the look-up tables are cached on the instance.
@dataclass(frozen=True, kw_only=True)
class Succession:
    """Generations in one authority.

    Raises:
        ValueError: two of them are the same CA, or one has no RSA key for requests.
    """

    current: Generation
    next: Generation | None = None
    previous: tuple[Generation, ...] = ()
    """The latest first."""

    def __post_init__(self) -> None:
        if len(self.issuers) != len(self.all):
            raise ValueError("two CAs of a rollover have the same name and key: make a new key")
        if len(self._by_recipient) != len(self.all):
            raise ValueError("two CAs of a rollover have the same certificate for requests")
        if len(self.all) > 1:
            for one in self.all:
                if not isinstance(one.decrypts.private_key, rsa.RSAPrivateKey):
                    raise ValueError(
                        "requests are encrypted to RSA keys: a CA with another key needs an RA"
                    )

    @lazy
    def all(self) -> tuple[Generation, ...]:
        """The present one first, then the next one, then those before."""
        following = () if self.next is None else (self.next,)
        return self.current, *following, *self.previous

    @lazy
    def issuers(self) -> Mapping[str, Issuer]:
        """By the name that each has in the store."""
        return {one.issuer.id: one.issuer for one in self.all}

    @lazy
    def rollover(self) -> tuple[Identity, ...]:
        """Who opens requests besides the present one: for Server."""
        return tuple(one.decrypts for one in self.all[1:])

    @lazy
    def next_ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """What GetNextCACert hands out: for Server."""
        return () if self.next is None else self.next.certificates

    def asked(self, recipient: Identity) -> Generation:
        """The one that a request was encrypted to."""
        if len(self.all) == 1:
            return self.current
        # By certificate: a server may have another object of the same identity.
        return self._by_recipient.get(recipient.raw, self.current)

    def by_id(self, issuer_id: str | None) -> Generation:
        """By the name in the store; the present one for what is not known any more."""
        for one in self.all:
            if one.issuer.id == issuer_id:
                return one
        return self.current

    def issues_for(self, asked: Generation) -> Issuer:
        """Who signs what is asked of a generation: never one that has been followed."""
        return asked.issuer if asked is self.next else self.current.issuer

    def from_when(self, asked: Generation, now: datetime) -> datetime:
        """When a certificate that is issued now begins: not before its CA does."""
        if asked is not self.next:
            return now
        return max(now, asked.issuer.certificate.not_valid_before_utc)

    def named(self, name: bytes) -> tuple[Issuer, ...]:
        """The issuers of that name, DER; clients encode it with other string types.

        CAs of a rollover often have the same name.
        """
        found = tuple(one for one in self.issuers.values() if one.identity.raw.subject == name)
        if found:
            return found
        try:
            read = x509.Name.from_bytes(name)
        except X509_FAULTS:
            return ()
        return tuple(
            one for one in self.issuers.values() if names.same_name(read, one.certificate.subject)
        )

    @lazy
    def _by_recipient(self) -> Mapping[RawCertificate, Generation]:
        return {one.decrypts.raw: one for one in self.all}
