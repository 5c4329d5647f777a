"""The management service of ``make demo-intune``: a fake Intune, as a process of its own.

It is the stand-in of the tests (``tests/fake_intune.py``): login, Graph and the validation service
behind TLS, with no line of pyscep in it. Each line on its standard input is a JSON object that says
what to do, and gets one line back; it ends when standard input does.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from tests import fake_intune


@dataclass(slots=True)
class Service(fake_intune.FakeIntune):
    """The fake, with a log of what it was asked and what it answered."""

    log: list[dict[str, Any]] = field(default_factory=list)

    def handle(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes] | fake_intune.Fault:
        before = len(self.calls)
        answer = fake_intune.FakeIntune.handle(self, method, target, headers, body)
        for call in self.calls[before:]:
            self.log.append(describe(call, answer))
        return answer

    def do(self, name: str, **words: Any) -> Any:
        """What a line on standard input says.

        Raises:
            ValueError: there is no such thing to do.
        """
        match name:
            case "mint":
                return self.mint(words["subject"], tuple(words["sans"]), size=words["size"])
            case "expect":
                return self.expect(words["challenge"], words["subject"], tuple(words["sans"]))
            case "fail":
                return self.fail(words["route"], status=500)
            case "refuse":
                return self.code(words["route"], words["code"])
            case "log":
                taken, self.log = self.log, []
                return taken
            case "notified":
                return self.notified.get(words["serial"])
            case "revoke":
                note = self.notified[words["serial"]]
                request = {
                    "requestContext": f"request for {words['serial']}",
                    "serialNumber": note["certificateSerialNumber"],
                    "issuerName": note["issuingCertificateAuthority"],
                    "caConfiguration": note["caConfiguration"],
                }
                return self.revocations.append(request)
            case "results":
                return self.results
            case _:
                raise ValueError(name)


def describe(call: fake_intune.Call, answer: tuple[int, bytes] | fake_intune.Fault) -> Any:
    """A call in a few words."""
    status, content = (answer.status, b"{}") if isinstance(answer, fake_intune.Fault) else answer
    told = json.loads(content or b"{}")
    record = {"call": call.route, "status": status}
    if isinstance(told, dict) and "code" in told:
        record["code"] = told["code"]
    inner = call.body.get("request") or call.body.get("notification") if call.body else None
    if isinstance(inner, dict) and "certificateRequest" in inner:
        csr = x509.load_der_x509_csr(base64.b64decode(inner["certificateRequest"]))
        record["subject"] = csr.subject.rfc4514_string()
        for name in ("certificateSerialNumber", "errorDescription"):
            if name in inner:
                record[name] = inner[name]
    return record


def main() -> None:
    """Serve until standard input ends."""
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    service = Service()
    with fake_intune.serving(service, directory, port=port):
        fake_intune.write_configuration(service, directory)
        print(json.dumps({"url": service.url}), flush=True)
        for line in sys.stdin:
            print(json.dumps(service.do(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
