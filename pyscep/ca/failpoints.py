"""Places where a crash hurts most, for the tests that end a server there with SIGKILL.

``PYSCEP_FAILPOINT=enter.commit:3`` in the environment ends the process when it reaches that
place for the third time, as a power cut would: no handler runs, nothing is flushed. Without
the variable a place costs one comparison.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import Final

VARIABLE: Final = "PYSCEP_FAILPOINT"

WRITES: Final = (
    "challenge",  # a one-time challenge is made
    "enter",  # an authorized request: certificate row or pending attempt, challenge spent
    "signed",  # the signed certificate
    "notified",  # that a provider knows of it
    "refusal",  # a refused attempt
    "approve",
    "deny",
    "revoke",
    "crl",
)
"""What is written, each in one transaction."""
STEPS: Final = ("begin", "commit", "done")
"""Before a transaction, before its commit, and after it."""
POINTS: Final = (
    *(f"{name}.{step}" for name in WRITES for step in STEPS),
    "sign.before",
    "sign.after",
    "sign_crl.before",
    "sign_crl.after",
    "notify.before",
    "notify.after",
    "answer.before",
)
"""Every place, by name."""

_armed: tuple[str, itertools.count[int]] | None = None


def arm(setting: str) -> None:
    """End this process at a place.

    Args:
        setting: ``name`` or ``name:count``; an empty text for never.

    Raises:
        ValueError: no such place, or no such count.
    """
    global _armed
    if not setting:
        _armed = None
        return
    name, _, count = setting.partition(":")
    if name not in POINTS:
        raise ValueError(f"{VARIABLE}: {ascii(name)} is none of {', '.join(POINTS)}")
    if not (count or "1").isdecimal() or int(count or "1") < 1:
        raise ValueError(f"{VARIABLE}: {ascii(count)} is no count from 1 on")
    _armed = name, itertools.count(int(count or "1"), -1)


def reach(name: str) -> None:
    """The process is at a place; perhaps it ends here."""
    if _armed is not None and _armed[0] == name and next(_armed[1]) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(VARIABLE, ""))
