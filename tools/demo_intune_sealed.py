"""The second half of ``make demo-intune``: sealed challenges, checked without asking anybody."""

from __future__ import annotations

import time

from demo_intune_device import REFUSED, SEALED, SID, TAG, Device
from demo_intune_lab import Answer, Lab
from demo_intune_processes import listens

from pyscep.integrations.sealed import MAX_TEXT

DATA = 12_650
"""Bytes of the service's own that make a challenge as long as it may be."""
QUERY = 38_000


class SealedStory:
    """The steps with sealed challenges."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.view = lab.view
        self.holds = lab.holds
        self.folder = lab.folder / "mdm"

    def device(self, name: str, *, service: str = "mdm") -> Device:
        """A device with a challenge that was sealed for it."""
        device = Device(lab=self.lab, name=name)
        folder = self.lab.folder / service
        words = ["--service-certificate", f"{service}.pem", "--service-key", f"{service}.key"]
        words += ["--recipient", "module.pem", "--subject", device.subject, "--key", "rsa-2048"]
        words += [f"--san={kind}:{value}" for kind, value in device.names.items()]
        words += ["--data", "data"]
        (folder / "data").write_bytes(bytes(DATA))  # with it, the challenge is the longest
        done = self.lab.pyscep("challenge", "seal", *words, cwd=folder)
        device.challenge = done.out.strip()
        device.deploy()
        return device

    def enroll(self) -> None:
        """With the service gone."""
        with self.view.step(
            "Seal a challenge, and enroll with it",
            "A management service of one's own says in advance what a device will ask for.",
        ):
            self.lab.service.stop()
            self.holds(
                not self.lab.service.pid and not listens(self.lab.service.port),
                "Intune's process has ended: nobody is there to be asked",
            )
            files = sorted(one.name for one in self.folder.iterdir())
            self.holds(
                files == ["mdm.key", "mdm.pem", "module.pem"],
                f"the service has no key but its own: {', '.join(files)}",
            )
            device = self.device("device-7")
            length = len(device.challenge)
            self.holds(
                MAX_TEXT - 1000 < length <= MAX_TEXT, f"a challenge of {length:,} characters"
            )
            answer = device.enroll(SEALED)
            self.holds(
                (answer.method, answer.path, answer.status) == ("GET", SEALED, 200)
                and answer.sent >= QUERY,
                f"GET {SEALED}, {answer.sent:,} bytes through nginx",
            )
            check = ("verify", "-CAfile", "ca.pem", "-purpose", "sslclient", "device.pem")
            said = self.lab.openssl(*check, cwd=device.folder)
            self.holds("device.pem: OK" in said, "openssl accepts the certificate")
            words = ("x509", "-in", "device.pem", "-noout", "-ext", "subjectAltName")
            text = self.lab.openssl(*words, cwd=device.folder)
            names = f"DNS:{device.names['dns']}, URI:{TAG}{SID}"
            self.holds(names in text, f"certificate {device.serial()[:12]}…: {names}")

    def tamper(self) -> None:
        """What was not sealed is refused."""
        with self.view.step(
            "Refuse what was not sealed", "The seal says what is different; the device is not told."
        ):
            before, answers = self.lab.issued(), []
            device = self.device("device-8")
            changes: tuple[tuple[str, str, dict[str, str]], ...] = (
                ("another subject", "subject", {"subject": "CN=administrator,O=Corp"}),
                ("another SID", "subject alternative names", {"uri": f"{TAG}S-1-5-21-1-2-3-500"}),
            )
            for told, field, changed in changes:
                reason = f"the request differs: {field}"
                answers.append(self.refused(device, told, reason, **changed))
            used = Device(lab=self.lab, name="device-7")
            told = "a seal again, with another key"
            answers.append(self.refused(used, told, "spent", key="new.key"))
            answers.append(self.refused(self.expired("device-9"), "an expired seal", "expired"))
            stranger = self.device("device-10", service="stranger")
            answers.append(self.refused(stranger, "a stranger's seal", "signature"))
            self.lab.alike(answers)
            self.holds(self.lab.issued() == before, "nothing was issued")
            device.enroll(SEALED)
            self.holds(
                len(self.lab.issued()) == len(before) + 1, "the request that was sealed is granted"
            )

    def expired(self, name: str) -> Device:
        """A device that waited too long; a program of the service's sealed for it."""
        device = Device(lab=self.lab, name=name)
        device.challenge = self.lab.python(
            "demo_intune_seal.py", device.subject, *device.names.values(), cwd=self.folder
        ).strip()
        device.deploy()
        time.sleep(1.1)  # its life is one second
        return device

    def refused(
        self, device: Device, told: str, reason: str, key: str = "device.key", **changed: str
    ) -> Answer:
        """A FAILURE for the device, and the reason in the log."""
        answer = device.enroll(SEALED, code=REFUSED, key=key, **changed)
        self.holds(reason in answer.reason, f"{told}: {answer.reason}")
        return answer
