"""Microsoft Intune as the judge of challenges, for this CA as a third-party CA.

Needs the packages msal and httpx (the extra ``intune``). Whatever goes wrong on the way, no
certificate leaves: see docs/intune.md.
"""

from __future__ import annotations

from pyscep.integrations.intune.client import IntuneClient, Result, RevocationRequest
from pyscep.integrations.intune.codes import ResultCode, RevocationError
from pyscep.integrations.intune.provider import IntuneChallenges
from pyscep.integrations.intune.revocations import RevocationSummary, process_revocations
from pyscep.integrations.intune.settings import CLOUDS, IntuneSettings, load_settings

__all__ = [
    "CLOUDS",
    "IntuneChallenges",
    "IntuneClient",
    "IntuneSettings",
    "Result",
    "ResultCode",
    "RevocationError",
    "RevocationRequest",
    "RevocationSummary",
    "load_settings",
    "process_revocations",
]
