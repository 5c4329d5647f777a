"""A device of ``make demo-intune``: the ``pyscep enroll`` command in a folder of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from demo_intune_lab import Answer, Lab
from demo_intune_processes import Done, expect

REFUSED, TRANSPORT = 3, 1
"""Exit codes of ``pyscep enroll``."""
NDES = "/certsrv/mscep/mscep.dll/pkiclient.exe"
SEALED = "/scep/pkiclient.exe"
SID = "S-1-5-21-1381186052-4247692386-135928078-1225"
TAG = "tag:microsoft.com,2022-09-14:sid:"


@dataclass(slots=True)
class Device:
    """A device with what its profile says, and the files on it."""

    lab: Lab
    name: str
    challenge: str = field(default="", repr=False)

    @property
    def subject(self) -> str:
        """What the profile wants."""
        return f"CN={self.name},O=Corp"

    @property
    def names(self) -> dict[str, str]:
        """Alternative names that the profile wants."""
        return {"dns": f"{self.name}.corp.example.com", "uri": TAG + SID}

    @property
    def folder(self) -> Path:
        """Its disk."""
        return self.lab.folder / self.name

    @property
    def certificate(self) -> x509.Certificate:
        """What it got."""
        return x509.load_pem_x509_certificate((self.folder / "device.pem").read_bytes())

    def serial(self) -> str:
        """Of the certificate, as Intune writes it."""
        return f"{self.certificate.serial_number:X}"

    def deploy(self) -> None:
        """What device management puts on it: the CA's certificate and the challenge."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "ca.pem").write_bytes((self.lab.folder / "ca.pem").read_bytes())
        (self.folder / "challenge").write_text(self.challenge)

    def enroll(
        self, path: str, *, code: int = 0, key: str = "device.key", **changed: str
    ) -> Answer:
        """Ask for a certificate by GET, through nginx.

        Args:
            path: of the endpoint.
            code: the exit code that has to come out.
            key: file name of the key.
            changed: subject, dns or uri, where they are not what the profile wants.
        """
        wanted = {"subject": self.subject, **self.names, **changed}
        lab = self.lab
        requests, events = lab.log_length(), len(lab.servers["pyscep"].events())
        options = [word for name, value in wanted.items() for word in (f"--{name}", value)]
        files = ["--key", key, "--out", "device.pem" if not code else "refused.pem"]
        trust = ["--ca-certificate", "ca.pem", "--challenge-file", "challenge"]
        words = ["enroll", lab.url(path), *trust, *files, *options, "--method", "get", "--json"]
        shown = "" if path not in lab.shown else self._shorter(key, changed)
        lab.shown.add(path)
        done = lab.pyscep(*words, cwd=self.folder, code=code, shown=shown)
        expect(not (self.folder / "refused.pem").exists(), "a certificate came all the same")
        return self._answer(done, requests, events)

    def _shorter(self, key: str, changed: dict[str, str]) -> str:
        """The command, with what is not as in the profile only."""
        other = {"key": key, **changed} if key != "device.key" else changed
        return " ".join(["pyscep enroll …", *(f"--{name} {text}" for name, text in other.items())])

    def _answer(self, done: Done, requests: int, events: int) -> Answer:
        lab = self.lab
        log = lab.access_log_after(requests)
        new = lab.servers["pyscep"].events()[events:]
        answered = [one for one in new if one["event"] in ("answered", "authority_failed")]
        expect(len(answered) == 1, f"the server reports {json.dumps(new)}")
        failed = answered[0]["event"] == "authority_failed"
        told = [one["text"] for one in new if one["event"] == "log"]
        method, path, status, sent, received = log[-1].groups()
        return Answer(
            method=method,
            path=path,
            status=int(status),
            sent=int(sent),
            received=int(received),
            result=done.json(),
            reason=(" ".join(told) if failed else answered[0].get("reason")) or "",
        )
