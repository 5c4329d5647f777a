"""What the steps of ``make demo-intune`` with Intune have in common."""

from __future__ import annotations

import urllib.request
from typing import Any

from demo_intune_device import NDES, REFUSED, Device
from demo_intune_lab import HOST, Answer, Lab
from demo_intune_processes import expect

CHALLENGE = 26_400
"""Characters of a challenge that makes a query of more than 40,000 bytes."""


def fetch(url: str, host: str = HOST) -> tuple[bytes, str]:
    """A file over plain http from the host of that name, with its media type."""
    request = urllib.request.Request(url, headers={"Host": host})  # noqa: S310 - http, ours
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        return response.read(), response.headers["content-type"]


def short(serial: str) -> str:
    """The beginning of a serial number."""
    return serial[:12] + "…"


class IntuneSteps:
    """Devices with challenges of Intune's, and its log."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.view = lab.view
        self.holds = lab.holds

    def device(self, name: str) -> Device:
        """A device whose profile has a challenge for it."""
        device = Device(lab=self.lab, name=name)
        device.challenge = self.lab.service.do(
            "mint", subject=device.subject, sans=list(device.names.values()), size=CHALLENGE
        )
        device.deploy()
        return device

    def refused(
        self, device: Device, told: str, reason: str, key: str = "device.key", **changed: str
    ) -> Answer:
        """A FAILURE for the device, and the reason in the log."""
        answer = device.enroll(NDES, code=REFUSED, key=key, **changed)
        self.holds(reason in answer.reason, f"{told}: {answer.reason}")
        return answer

    def calls_are(self, expected: list[tuple[str, str]]) -> None:
        """What Intune was asked, and what it said."""
        log = self.lab.service.log()
        self.show_calls(log)
        found = [(one["call"], one.get("code")) for one in log]
        expect(found == expected, f"Intune was asked {found}, not {expected}")

    def show_calls(self, log: list[dict[str, Any]]) -> None:
        """The service's log."""
        self.view.facts(
            *(
                (
                    f"Intune: {one['call']}",
                    " ".join(
                        str(one[name]) for name in ("status", "code", "subject") if name in one
                    ),
                )
                for one in log
            )
        )
