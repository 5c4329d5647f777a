"""The keyword arguments that the ways to open a CA have in common, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypedDict

from cryptography import x509

from pyscep.ca.challenge import ChallengeProvider
from pyscep.ca.creation import Addresses
from pyscep.ca.generations import Generation
from pyscep.ca.profile import Profile
from pyscep.identity import Identity


class Settings(TypedDict, total=False):
    """How a CA decides; CertificateAuthority says what each means."""

    profiles: Profile | Sequence[Profile]
    challenge: ChallengeProvider | None
    static_challenge: str | None
    endpoint: str
    trusted_renewal_issuers: Sequence[x509.Certificate]
    legacy_renewal: bool
    redelivery: timedelta
    public_certificates: bool
    now: Callable[[], datetime]
    token_bytes: Callable[[int], bytes]


class OpenSettings(Settings, total=False):
    """... with identities that are not in files."""

    recipient: Identity | None
    encryption: Identity | None
    next_ca: Generation | None
    previous_cas: Sequence[Generation]


class DirectorySettings(Settings, total=False):
    """... with what a CA in a directory is made from."""

    common_name: str
    organization: str | None
    key_type: str
    validity: timedelta
    topology: str
    parent: Identity | None
    parent_addresses: Addresses
    base_url: str | None
    password: bytes | None
    database: str | None
