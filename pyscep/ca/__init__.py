"""A CA to put behind a Server: keys, profiles, challenges, approval, CRL, durable store.

``CertificateAuthority.load_or_create(directory)`` is a CA; it is callable as the authority
of the Server that its ``server()`` makes.
"""

from __future__ import annotations

from pyscep.ca.authority import CertificateAuthority
from pyscep.ca.challenge import (
    ChallengeProvider,
    ChallengeRequest,
    FirstOf,
    Granted,
    Notification,
    OneTimeChallenges,
    Refused,
    StaticChallenge,
)
from pyscep.ca.generations import Generation
from pyscep.ca.issuer import Issuer, IssuerError
from pyscep.ca.keyfiles import (
    KeyFileError,
    read_identity,
    read_key_file,
    write_private,
    write_public,
)
from pyscep.ca.profile import Profile, RenewalRules
from pyscep.ca.records import Attempt, CertificateRecord
from pyscep.ca.store import Store

__all__ = [
    "Attempt",
    "CertificateAuthority",
    "CertificateRecord",
    "ChallengeProvider",
    "ChallengeRequest",
    "FirstOf",
    "Generation",
    "Granted",
    "Issuer",
    "IssuerError",
    "KeyFileError",
    "Notification",
    "OneTimeChallenges",
    "Profile",
    "Refused",
    "RenewalRules",
    "StaticChallenge",
    "Store",
    "read_identity",
    "read_key_file",
    "write_private",
    "write_public",
]
