"""How a request is turned down inside the CA: with a reason for the log, not for the peer."""

from __future__ import annotations

from pyscep.enums import FailInfo
from pyscep.messages import Failure


class Refusal(Exception):
    """The request is refused.

    Args:
        reason: why, precisely, for events and logs; never sent to the peer.
        fail_info: what the peer is told. Everything up to and including authorization is
            one badRequest, so that an answer betrays nothing.
    """

    def __init__(self, reason: str, fail_info: FailInfo = FailInfo.BAD_REQUEST) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fail_info = fail_info

    def to_failure(self) -> Failure:
        """The outcome that the server sends."""
        return Failure(fail_info=self.fail_info, reason=self.reason)
