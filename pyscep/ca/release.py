"""Certificates that are signed and kept back, because a provider could not be told of them.

A retry of the device tells the provider again. What is not released in time is revoked: the
provider never heard of it, so nobody else would.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import exists, select

from pyscep.ca.audit import ITSELF
from pyscep.ca.issuer import Issuer
from pyscep.ca.revocation import RevocationList
from pyscep.ca.schema import attempts, certificates
from pyscep.ca.store import Store

RELEASE_WITHIN: Final = timedelta(hours=1)
"""How long a provider can be unreachable before its certificate is revoked."""
UNRELEASED: Final = "cessationOfOperation"
"""The reason in the CRL."""


def revoke_unreleased(store: Store, issuer: Issuer, now: datetime) -> tuple[int, ...]:
    """Revoke what could not be released within RELEASE_WITHIN, and sign the CRL that says so.

    What waited for approval is left alone: its provider hears of it when the device polls.

    Returns:
        The serial numbers.
    """
    waited = exists().where(
        attempts.c.certificate_id == certificates.c.id, attempts.c.spki.is_not(None)
    )
    query = select(certificates.c.serial).where(
        certificates.c.issuer_id == issuer.id,
        certificates.c.state == "issued",
        certificates.c.notified.is_(False),
        certificates.c.created_at < now - RELEASE_WITHIN,
        ~waited,
    )
    with store.read() as connection:
        serials = tuple(int(serial, 16) for serial in connection.execute(query).scalars())
    revocation = RevocationList(store=store, issuer=issuer)
    for serial in serials:
        revocation.revoke(serial, UNRELEASED, now, ITSELF)
    return serials
