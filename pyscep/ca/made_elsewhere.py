"""Providers that judge challenges which somebody else has made."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar


class MadeElsewhere:
    """The part of a ChallengeProvider that has no challenges to hand out."""

    no_challenge: ClassVar[str]
    """Why, and who has them."""

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        """There is none to be had here.

        Raises:
            ValueError: always.
        """
        del subject, sans, profile, lifetime
        raise ValueError(self.no_challenge)
