"""The job that revokes what Intune wants revoked: certificates of devices that left."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from pyscep.ca import CertificateAuthority, CertificateRecord
from pyscep.ca.challenge import utc_now
from pyscep.ca.release import revoke_unreleased
from pyscep.integrations.intune.client import (
    IntuneClient,
    RevocationRequest,
    RevocationResult,
)
from pyscep.integrations.intune.codes import RevocationError

REASON: Final = "cessationOfOperation"
_logger = logging.getLogger("pyscep.intune")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationSummary:
    """What one run did."""

    asked: int
    """How many requests Intune had."""
    revoked: tuple[int, ...]
    """Serial numbers."""
    failed: tuple[RevocationResult, ...]
    unreleased: tuple[int, ...]
    """Serial numbers of certificates that Intune never heard of, revoked for that."""


def process_revocations(
    client: IntuneClient,
    ca: CertificateAuthority,
    *,
    issuer_name: str,
    max_requests: int = 100,
    reason: str = REASON,
) -> RevocationSummary:
    """Download the requests, revoke, and upload what became of them. Run it every hour or so.

    A certificate that was kept back for more than an hour, because Intune could not be told of
    it, is revoked too.

    Args:
        client: of the tenant.
        ca: whose certificates they are.
        issuer_name: as in the notifications of IntuneChallenges.
        max_requests: how many to ask for; Microsoft recommends 100 at most.
        reason: an RFC 5280 name for the CRL.

    Raises:
        ServiceUnavailable: Intune gave no list, or did not take the results. What is revoked
            stays so.
    """
    unreleased = tuple(
        serial
        for issuer in ca.succession.issuers.values()
        for serial in revoke_unreleased(ca.store, issuer, utc_now())
    )
    requests = client.download_revocations(issuer_name, max_requests)
    revoked: list[int] = []
    results: list[RevocationResult] = []
    for request in requests:
        try:
            serial = _revoke(ca, request, issuer_name, reason)
        except _Failed as failure:
            results.append(
                RevocationResult(context=request.context, error=failure.error, message=str(failure))
            )
        except Exception:  # the store: Intune shall ask again
            _logger.exception("a revocation failed")
            retryable = RevocationError.RETRYABLE_SERVICE_EXCEPTION
            results.append(
                RevocationResult(context=request.context, error=retryable, message="not now")
            )
        else:
            revoked.append(serial)
            results.append(RevocationResult(context=request.context))
    if results:
        client.upload_revocations(results)
    return RevocationSummary(
        asked=len(requests),
        revoked=tuple(revoked),
        failed=tuple(one for one in results if one.error is not RevocationError.NONE),
        unreleased=unreleased,
    )


class _Failed(Exception):
    def __init__(self, error: RevocationError, text: str) -> None:
        super().__init__(text)
        self.error = error


def _revoke(
    ca: CertificateAuthority, request: RevocationRequest, issuer_name: str, reason: str
) -> int:
    if request.issuer_name not in ("", issuer_name):
        raise _Failed(RevocationError.PARAMETER_DATA_INVALID_ERROR, "another issuer's name")
    record = _find(ca, request.serial_number)
    if record is None or record.state == "signing":
        raise _Failed(RevocationError.CERTIFICATE_NOT_FOUND_ERROR, "no such certificate")
    if record.state == "revoked":
        raise _Failed(RevocationError.CONFLICT_ERROR, "revoked already")
    ca.revoke(record.serial_number, reason)
    return record.serial_number


def _find(ca: CertificateAuthority, text: str) -> CertificateRecord | None:
    """By the serial number as it was notified, hexadecimal; others' CAs notified it decimal."""
    candidates = []
    for base in (16, 10):
        try:
            candidates.append(int(text.replace(":", ""), base))
        except ValueError:
            continue
    if not candidates:
        raise _Failed(RevocationError.PARAMETER_DATA_INVALID_ERROR, "not a serial number")
    found = (ca.find(number) for number in candidates)
    return next((record for record in found if record is not None), None)
