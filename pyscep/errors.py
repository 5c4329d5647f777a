"""What can go wrong. Each class knows the failInfo that a server answers with.

Misuse by the calling program is a TypeError or ValueError, never one of these.
"""

from __future__ import annotations

from typing import Any, Final

from pyscep.enums import FailInfo


class ScepError(Exception):
    """The root of everything this package raises about a peer or a transport."""


class ProtocolError(ScepError):
    """The peer sent something that the protocol forbids.

    Args:
        reason: what is wrong, for logs and events; never sent to the peer.
        offset: where in the input, in bytes, where that is known.
    """

    __slots__ = ("offset", "reason")
    fail_info = FailInfo.BAD_REQUEST
    reason: str
    offset: int | None

    def __init__(self, reason: str, *, offset: int | None = None) -> None:
        # Exception.__new__ has kept the arguments: to keep them again takes as long as all else.
        self.reason = reason
        self.offset = offset

    def __reduce__(self) -> tuple[Any, ...]:
        state = {**self.__dict__, "reason": self.reason, "offset": self.offset}
        return type(self), self.args, state

    def __str__(self) -> str:
        return self.reason if self.offset is None else f"{self.reason} (at byte {self.offset})"


class DecodeError(ProtocolError):
    """The bytes are not the structure they claim to be."""

    @staticmethod
    def at(offset: int, reason: str) -> DecodeError:
        """``DecodeError(reason, offset=offset)`` in half the time, for what anybody may send."""
        error = _new(DecodeError, reason)
        error.reason = reason
        error.offset = offset
        return error


_new: Final = DecodeError.__new__


class SignatureError(ProtocolError):
    """The signature of a pkiMessage, a CSR or a certificate does not verify."""

    fail_info = FailInfo.BAD_MESSAGE_CHECK


class DecryptionError(ProtocolError):
    """The envelope does not open; says no more than that, to anybody."""


class AlgorithmError(ProtocolError):
    """An algorithm that is unknown, or that the policy refuses."""

    fail_info = FailInfo.BAD_ALG


class SigningTimeError(ProtocolError):
    """The signingTime is too far from this side's clock."""

    fail_info = FailInfo.BAD_TIME


class UnknownCertificate(ProtocolError):
    """No certificate or CRL matches what was asked for."""

    fail_info = FailInfo.BAD_CERT_ID


class EnrollmentRefused(ScepError):
    """The CA answered FAILURE in a verified CertRep (client side).

    ``fail_info`` is a FailInfo, or the bare number where the server sent one that the
    RFC does not define, or None where it sent none. ``text`` is failInfoText: text from
    the network, escape it before showing it.
    """

    def __init__(self, fail_info: FailInfo | int | None, text: str | None = None) -> None:
        if isinstance(fail_info, FailInfo):
            name = fail_info.rfc_name
        else:
            name = "no failInfo" if fail_info is None else f"failInfo {fail_info}"
        super().__init__(f"the CA refused: {name}" + (f": {ascii(text)}" if text else ""))
        self.fail_info = fail_info
        self.text = text


class TransportError(ScepError):
    """HTTP did not deliver a SCEP answer: status, media type, size, deadline, connection.

    ``status`` is the HTTP status where there was one; ``retry_after`` the seconds that a
    503 or 429 asked to wait.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
