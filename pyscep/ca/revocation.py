"""Revocation and the CRL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from pyscep.ca import audit, failpoints, ledger
from pyscep.ca.issuer import REVOCATION_REASONS, Issuer, RevokedEntry
from pyscep.ca.schema import crls
from pyscep.ca.store import Store


class RevocationList:
    """The CRL of one issuer: signed once, stored, and handed out until half its life is over.

    Args:
        store, issuer: of the CA.
    """

    def __init__(self, *, store: Store, issuer: Issuer) -> None:
        self._store = store
        self._issuer = issuer
        self._cached: tuple[int, bytes] = (0, b"")

    def current(self, now: datetime) -> bytes:
        """The newest CRL, DER; a new one when more than half of its time is over."""
        with self._store.read() as connection:
            query = select(crls.c.number, crls.c.next_update)
            row = connection.execute(
                query.where(crls.c.issuer_id == self._issuer.id)
                .order_by(crls.c.number.desc())
                .limit(1)
            ).first()
            if row is not None and row.next_update - now > self._issuer.crl_lifetime / 2:
                crl = self._load(connection, row.number)
                # After a change of the distribution points an old CRL would not fit them.
                if crl.rfind(self._issuer.crl_scope) >= 0:
                    return crl
        return self.renew(now)

    def renew(self, now: datetime) -> bytes:
        """Sign a new CRL with everything that is revoked by now, and store it."""
        while True:
            since = now - self._issuer.crl_lifetime
            with self._store.read() as connection:
                last = _last_number(connection, self._issuer.id)
                rows = ledger.revoked(connection, self._issuer.id, since)
            entries = [
                RevokedEntry(
                    serial_number=int(row.serial, 16),
                    revoked_at=row.revoked_at,
                    reason=row.revocation_reason,
                )
                for row in rows
            ]
            failpoints.reach("sign_crl.before")
            crl = self._issuer.make_crl(entries, number=last + 1, now=now)
            failpoints.reach("sign_crl.after")
            if self._add(last, crl, now):
                return crl

    def revoke(
        self, serial_number: int, reason: str, now: datetime, who: str = audit.OPERATOR
    ) -> None:
        """Revoke a certificate and sign the CRL that says so. Once revoked, it stays so.

        Args:
            serial_number: of the certificate.
            reason: an RFC 5280 name such as ``keyCompromise``.
            now: the time of revocation.
            who: for the audit table.

        Raises:
            LookupError: no issued certificate has that serial number.
            ValueError: an unknown reason.
        """
        if reason not in REVOCATION_REASONS:
            raise ValueError(f"reason {reason!r} is none of {', '.join(REVOCATION_REASONS)}")

        def work(connection: Connection) -> None:
            record = ledger.by_serial(connection, self._issuer.id, serial_number)
            if record is None or record.state == "signing":
                raise LookupError(f"no certificate with the serial number {serial_number:x}")
            ledger.revoke(connection, record.id, reason=reason, now=now, who=who)

        self._store.write(work, "revoke")
        self.renew(now)

    def _load(self, connection: Connection, number: int) -> bytes:
        """A stored CRL; the last one stays in memory."""
        cached_number, crl = self._cached
        if cached_number != number:
            query = select(crls.c.crl).where(
                crls.c.issuer_id == self._issuer.id, crls.c.number == number
            )
            crl = bytes(connection.execute(query).scalar_one())
            self._cached = number, crl
        return crl

    def _add(self, last: int, crl: bytes, now: datetime) -> bool:
        """Store a CRL as the one after ``last``; False if there is a newer one.

        Then it lacks what was revoked meanwhile, and has to be made anew.
        """

        def work(connection: Connection) -> bool:
            if _last_number(connection, self._issuer.id) != last:
                return False
            connection.execute(
                insert(crls).values(
                    issuer_id=self._issuer.id,
                    number=last + 1,
                    crl=crl,
                    this_update=now,
                    next_update=now + self._issuer.crl_lifetime,
                )
            )
            return True

        return self._store.write(work, "crl")


def _last_number(connection: Connection, issuer_id: str) -> int:
    query = select(func.max(crls.c.number)).where(crls.c.issuer_id == issuer_id)
    return connection.execute(query).scalar() or 0
