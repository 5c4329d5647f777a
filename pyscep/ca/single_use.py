"""One use for challenges that somebody else made: the store remembers who spent them.

A challenge is reserved in the very transaction that enters the certificate or the pending
attempt. If that transaction fails, the reservation is gone with it; of two that come at the
same time, one gets it. The holder may repeat his request until the challenge expires.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, insert, select

from pyscep.ca.challenge import ChallengeRequest, Granted, Refused
from pyscep.ca.records import issue_key, key_hash
from pyscep.ca.schema import challenges
from pyscep.ca.store import Store

Claim = Callable[[Connection, str, datetime], bool]
"""As Granted.claim."""

_DIGITS: Final = 40


def claim_once(credential: str, expires_at: datetime, profile: str | None = None) -> Claim:
    """A claim for ``Granted`` that one issue key can make.

    Args:
        credential: of the Granted, at most 64 characters.
        expires_at: until then the holder may repeat it.
        profile: of the Granted, for repetitions.
    """

    def claim(connection: Connection, key: str, now: datetime) -> bool:
        query = select(challenges.c.reserved_by, challenges.c.expires_at)
        row = connection.execute(query.where(challenges.c.id == credential)).first()
        if row is not None:
            return bool(row.reserved_by == key and row.expires_at > now)
        values = {
            "id": credential,
            "mac": b"",
            "created_at": now,
            "expires_at": expires_at,
            "bound": {"subject": None, "sans": None, "profile": profile},
            "failures": 0,
            "reserved_by": key,
            "spent_at": now,
        }
        connection.execute(insert(challenges), values)
        return True

    return claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """That a challenge has been spent."""

    by_same: bool
    """By the request that asks again: same endpoint, same key to be certified."""
    expires_at: datetime
    profile: str | None


class SingleUse:
    """Names challenges without telling them, and knows which have been spent.

    Args:
        store: of the CA.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.secret("single_use_hmac")

    def credential(self, scheme: str, challenge: str) -> str:
        """``scheme:<digest>``: stands for a challenge in the store, in events and in logs."""
        text = challenge.encode("utf-8", "surrogatepass")
        return f"{scheme}:{hmac.digest(self._key, text, 'sha256').hex()[:_DIGITS]}"

    def spending(self, credential: str, request: ChallengeRequest) -> Spending | None:
        """Who spent a challenge, as seen by a request; None if nobody did."""
        query = select(challenges.c.reserved_by, challenges.c.expires_at, challenges.c.bound)
        with self._store.read() as connection:
            row = connection.execute(query.where(challenges.c.id == credential)).first()
        if row is None:
            return None
        csr_key = key_hash(request.csr.spki)
        key = issue_key(request.endpoint, credential, csr_key, request.issuer_id)
        return Spending(
            by_same=row.reserved_by == key, expires_at=row.expires_at, profile=row.bound["profile"]
        )

    def again(self, credential: str, request: ChallengeRequest) -> Granted | Refused | None:
        """The verdict on a challenge that was spent before; None if it wasn't.

        The request that spent it is granted again, until the challenge expires, without
        asking whoever judged it: a reply can get lost.
        """
        spending = self.spending(credential, request)
        if spending is None:
            return None
        if not spending.by_same:
            return Refused(reason=f"{credential} is spent for another key")
        if spending.expires_at <= request.now:
            return Refused(reason=f"{credential} is spent, and has expired")
        return self.grant(credential, spending.expires_at, spending.profile)

    @staticmethod
    def grant(credential: str, expires_at: datetime, profile: str | None = None) -> Granted:
        """A Granted that one key can use."""
        claim = claim_once(credential, expires_at, profile)
        return Granted(credential=credential, expires_at=expires_at, profile=profile, claim=claim)
