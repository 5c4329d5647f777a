"""A CA to put behind a Server: what is configured, and what the people who run it do.

``CertificateAuthority`` is callable as the server's authority; how it answers a message is
in ``responder``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Unpack

from cryptography import x509

from pyscep.ca import directory as files
from pyscep.ca.administration import Administration
from pyscep.ca.authorizer import Authorizer
from pyscep.ca.challenge import (
    ChallengeProvider,
    FirstOf,
    OneTimeChallenges,
    StaticChallenge,
    utc_now,
)
from pyscep.ca.creation import NOWHERE, Addresses
from pyscep.ca.generations import Generation, Succession
from pyscep.ca.issuer import Issuer
from pyscep.ca.profile import Profile
from pyscep.ca.registrar import Registrar
from pyscep.ca.responder import Responder
from pyscep.ca.revocation import RevocationList
from pyscep.ca.settings import DirectorySettings, OpenSettings, Settings
from pyscep.ca.store import Store
from pyscep.cms.algorithms import MODERN, AlgorithmPolicy
from pyscep.identity import Identity
from pyscep.messages import Outcome
from pyscep.server import PkiRequest, Server

REDELIVERY: Final = timedelta(minutes=20)
"""How long NDES remembers a request."""


class CertificateAuthority(Administration):
    """A CA with its rules, its store and its challenges.

    Use ``open``, ``create``, ``load`` or ``load_or_create``; the constructor is for those who
    have a Store already. Safe to use from several threads, and from several processes that
    share the store.

    Args:
        store: what it must not forget.
        issuer: the CA's certificate and key; a Generation also says who talks to clients.
        profiles: what is issued; the first is the default, a challenge can name another.
        challenge: checks challenges; by default one-time challenges kept in the store.
        static_challenge: a secret that is accepted beside the one-time challenges.
        recipient: the RA that talks to clients; None: the CA does so with its own key.
        encryption: a second RA that requests are encrypted to.
        next_ca: follows this CA (RFC 8894 section 4.7): it issues already to clients that
            encrypt to it.
        previous_cas: those that this CA has followed, the latest first. They issue no more;
            a client that still encrypts to one gets a certificate of this CA.
        endpoint: keeps apart what several endpoints have in one store.
        trusted_renewal_issuers: CAs whose certificates can be renewed here.
        legacy_renewal: a PKCSReq that a certificate of ours signed can be a renewal.
        redelivery: how long a request with a static challenge or a certificate counts as
            the same, and gets the same certificate.
        public_certificates: GetCert hands out everybody's certificates to known clients.
        now: the clock.
        token_bytes: the source of randomness.

    Raises:
        ValueError: settings that do not fit together.
        sqlalchemy.exc.SQLAlchemyError: the store does not work.
    """

    def __init__(
        self,
        *,
        store: Store,
        issuer: Identity | Issuer | Generation,
        profiles: Profile | Sequence[Profile] = (),
        challenge: ChallengeProvider | None = None,
        static_challenge: str | None = None,
        recipient: Identity | None = None,
        encryption: Identity | None = None,
        next_ca: Generation | None = None,
        previous_cas: Sequence[Generation] = (),
        endpoint: str = "default",
        trusted_renewal_issuers: Sequence[x509.Certificate] = (),
        legacy_renewal: bool = True,
        redelivery: timedelta = REDELIVERY,
        public_certificates: bool = False,
        now: Callable[[], datetime] = utc_now,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not isinstance(issuer, Generation):
            issuer = Generation(
                issuer=issuer if isinstance(issuer, Issuer) else Issuer(issuer),
                recipient=recipient,
                encryption=encryption,
            )
        elif recipient is not None or encryption is not None:
            raise ValueError("a Generation brings its RAs with it: leave out the others")
        self.issuer = issuer.issuer
        self.recipient = issuer.recipient
        self.encryption = issuer.encryption
        self.succession = Succession(current=issuer, next=next_ca, previous=tuple(previous_cas))
        self.store = store
        self.profiles = _by_name(profiles)
        self._endpoint = endpoint
        self._redelivery = redelivery
        self._now = now
        self._token_bytes = token_bytes
        self._challenge = challenge or _default_challenge(
            store, static_challenge, now=now, token_bytes=token_bytes
        )
        if challenge is not None and static_challenge is not None:
            raise ValueError("give either challenge or static_challenge")
        self._authorizer = Authorizer(
            store=store,
            succession=self.succession,
            profiles=self.profiles,
            challenge=self._challenge,
            redelivery=redelivery,
            trusted_renewal_issuers=trusted_renewal_issuers,
            legacy_renewal=legacy_renewal,
        )
        self._registrar = Registrar(
            store=store, succession=self.succession, endpoint=endpoint, token_bytes=token_bytes
        )
        self._revocation = {
            number: RevocationList(store=store, issuer=one)
            for number, one in self.succession.issuers.items()
        }
        self._responder = Responder(
            store=store,
            succession=self.succession,
            endpoint=endpoint,
            authorizer=self._authorizer,
            registrar=self._registrar,
            revocation=self._revocation,
            ever_waits=any(profile.ever_waits for profile in self.profiles.values()),
            public_certificates=public_certificates,
            now=now,
        )
        self._registrar.recover(now())

    @classmethod
    def open(
        cls, url: str, *, issuer: Identity | Issuer | Generation, **settings: Unpack[OpenSettings]
    ) -> CertificateAuthority:
        """A CA on the database at ``url``; its tables are made when they are missing.

        Args:
            url: such as ``sqlite:///scep.db``.
            issuer: the CA's certificate and key.
            settings: as for the constructor.
        """
        store = Store(url)
        try:
            return cls(store=store, issuer=issuer, **settings)
        except BaseException:
            store.close()
            raise

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        *,
        common_name: str = "pyscep CA",
        organization: str | None = None,
        key_type: str = "rsa-3072",
        validity: timedelta = timedelta(days=3650),
        topology: str = "ra",
        parent: Identity | None = None,
        parent_addresses: Addresses = NOWHERE,
        base_url: str | None = None,
        password: bytes | None = None,
        database: str | None = None,
        **settings: Unpack[Settings],
    ) -> CertificateAuthority:
        """Make a CA in a directory: its keys and certificates in PEM, and its database.

        Args:
            directory: made with mode 0700 if it is missing.
            common_name: of the CA's subject.
            organization: of the CA's subject, or None.
            key_type: of the CA, such as rsa-3072 or ec-p256.
            validity: of the CA certificate, and with it of the RA certificates.
            topology: ``ra`` (one RA certificate talks to clients), ``ra-split`` (one signs,
                one decrypts), ``ndes`` (as ra-split, with NDES's extended key usage) or
                ``ca`` (the CA's own key does both).
            parent: the CA above this one; None makes a root.
            parent_addresses: where the parent's CRL and certificate are published.
            base_url: where the server is reached by http, such as ``http://pki.example``:
                certificates then say where CRL and CA certificate are (``/crl``, ``/aia``).
            password: encrypts the key files.
            database: URL of another database than ``scep.db`` beside the keys.
            settings: as for the constructor.

        Raises:
            FileExistsError: there is a CA already.
            ValueError: an unknown topology or key type.
        """
        files.create(
            directory,
            common_name=common_name,
            organization=organization,
            key_type=key_type,
            validity=validity,
            topology=topology,
            parent=parent,
            parent_addresses=parent_addresses,
            base_url=base_url,
            password=password,
            now=settings.get("now", utc_now)(),
        )
        return cls.load(directory, password=password, database=database, **settings)

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike[str],
        *,
        password: bytes | None = None,
        database: str | None = None,
        **settings: Unpack[Settings],
    ) -> CertificateAuthority:
        """The CA that ``create`` made.

        Args:
            directory: where it is.
            password: of its key files.
            database: URL of another database than ``scep.db`` beside the keys.
            settings: as for the constructor.

        Raises:
            FileNotFoundError: there is none.
            KeyFileError: a key file can't be used; the text says what to do.
        """
        found = files.load(directory, password=password)
        return cls(
            store=Store(database or files.database_url(directory)),
            issuer=found.generation(),
            next_ca=None if found.next is None else found.next.generation(),
            previous_cas=[one.generation() for one in found.previous],
            **settings,
        )

    @classmethod
    def load_or_create(
        cls, directory: str | os.PathLike[str], **arguments: Unpack[DirectorySettings]
    ) -> CertificateAuthority:
        """``load`` if there is a CA, else ``create``; takes the arguments of both."""
        if not files.exists(directory):
            try:
                return cls.create(directory, **arguments)
            except FileExistsError:
                pass  # another process was faster: use what it made
        settings: Any = {
            key: value for key, value in arguments.items() if key not in files.CREATION
        }
        return cls.load(directory, **settings)

    def __call__(self, request: PkiRequest) -> Outcome:
        """Decide on a request, and do what was decided: the server's authority."""
        return self._responder(request)

    def server(self, policy: AlgorithmPolicy = MODERN, **arguments: Any) -> Server:
        """A Server with this CA's identities and certificates.

        Args:
            policy: which algorithms it accepts.
            arguments: as for Server.
        """
        arguments = {
            "now": self._now,
            "token_bytes": self._token_bytes,
            "rollover": self.succession.rollover,
            "next_ca_certificates": self.succession.next_ca_certificates,
            **arguments,
        }
        if self.recipient is None:
            return Server(self.issuer.identity, policy=policy, **arguments)
        return Server(
            self.recipient,
            encryption=self.encryption,
            ca_certificates=self.ca_certificates,
            ca_identity=self.issuer.identity,
            policy=policy,
            **arguments,
        )

    def close(self) -> None:
        """Close the connections to the store."""
        self.store.close()

    def __enter__(self) -> CertificateAuthority:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _by_name(profiles: Profile | Sequence[Profile]) -> dict[str, Profile]:
    several = (profiles,) if isinstance(profiles, Profile) else tuple(profiles) or (Profile(),)
    by_name = {profile.name: profile for profile in several}
    if len(by_name) != len(several):
        raise ValueError("two profiles have the same name")
    return by_name


def _default_challenge(
    store: Store,
    static_challenge: str | None,
    *,
    now: Callable[[], datetime],
    token_bytes: Callable[[int], bytes],
) -> ChallengeProvider:
    one_time = OneTimeChallenges(store, now=now, token_bytes=token_bytes)
    if static_challenge is None:
        return one_time
    return FirstOf(one_time, StaticChallenge(static_challenge))
