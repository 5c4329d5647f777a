"""The steps of ``make demo-intune`` after enrollment: revocation, and an outage of Intune."""

from __future__ import annotations

from urllib.parse import urlsplit

from cryptography import x509
from demo_intune_device import NDES, TRANSPORT, Device
from demo_intune_lab import HOST
from demo_intune_processes import expect, listens
from demo_intune_steps import IntuneSteps, fetch


class LaterStory(IntuneSteps):
    """What happens when devices have their certificates."""

    def revoke(self, lost: Device, other: Device) -> None:
        """A device is wiped."""
        lab = self.lab
        with self.view.step(
            "Revoke what Intune wants revoked", "device-1 is wiped. A job fetches the order."
        ):
            check = ("verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "crl.pem")
            number = self.fetch_crl(lost, other)
            said = lab.openssl(*check, "device.pem", cwd=lost.folder)
            self.holds("device.pem: OK" in said, f"CRL {number} does not have the certificate")
            lab.service.do("revoke", serial=lost.serial())
            lab.service.log()
            done = lab.pyscep(
                "intune", "revocations", "--config", "scep.toml", "--json", cwd=lab.site
            ).json()
            serial = f"{lost.certificate.serial_number:x}"
            self.holds(
                (done["asked"], done["revoked"], done["failed"]) == (1, [serial], []),
                "one was asked for, one was revoked",
            )
            log = lab.service.log()
            self.show_calls(log)
            results = lab.service.do("results")
            self.holds(
                [one["call"] for one in log]
                == ["downloadRevocationRequests", "uploadRevocationResults"]
                and [one["succeeded"] for one in results] == [True],
                "Intune was told",
            )
            newer = self.fetch_crl(lost, other)
            text = lab.openssl("crl", "-in", "crl.pem", "-noout", "-text", cwd=lost.folder)
            self.view.excerpt(text, ("Serial Number:", "Revocation Date:", "URI:"))
            self.holds(lost.serial() in text and newer > number, f"CRL {newer} has the certificate")
            self.holds(f"URI:http://{HOST}/crl/main.crl" in text, "... and names its own address")
            said = lab.openssl(*check, "device.pem", cwd=lost.folder, code=2)
            self.holds("certificate revoked" in said, "openssl refuses device-1 with it")
            said = lab.openssl(*check, "device.pem", cwd=other.folder)
            self.holds("device.pem: OK" in said, "... and accepts device-2")

    def fetch_crl(self, *devices: Device) -> int:
        """The CRL, through nginx, from the address in the certificate; returns its number."""
        extension = devices[0].certificate.extensions.get_extension_for_class(
            x509.CRLDistributionPoints
        )
        names = extension.value[0].full_name
        assert names is not None
        address = urlsplit(names[0].value)
        # The name that devices would look up; here it is nginx on this machine.
        crl, kind = fetch(self.lab.url(address.path), address.netloc)
        expect(kind == "application/pkix-crl", f"the CRL came as {kind}")
        for device in devices:
            (device.folder / "crl.der").write_bytes(crl)
            self.lab.openssl(
                *("crl", "-inform", "DER", "-in", "crl.der", "-out", "crl.pem"),
                *("-CAfile", "ca.pem", "-verify"),
                cwd=device.folder,
                quiet=True,
            )
        text = self.lab.openssl(
            "crl", "-in", "crl.pem", "-noout", "-crlnumber", cwd=devices[0].folder, quiet=True
        )
        return int(text.strip().rpartition("=")[2], 16)

    def outage(self) -> None:
        """Intune is away."""
        with self.view.step(
            "Intune is away, and comes back", "Its process has ended. Then it starts again."
        ):
            device = self.device("device-6")
            before = self.lab.issued()
            self.lab.service.stop()
            self.holds(not listens(self.lab.service.port), "the service is gone")
            answer = device.enroll(NDES, code=TRANSPORT)
            self.holds(
                answer.status == 503 and answer.result["retry_after"] is not None,
                f"the device has HTTP 503: try again in {answer.result['retry_after']:.0f} s",
            )
            self.holds("Connection refused" in answer.reason, f"the server's log: {answer.reason}")
            self.holds(self.lab.issued() == before, "nothing was issued")
            self.lab.service.start()
            names = list(device.names.values())
            self.lab.service.do(
                "expect", challenge=device.challenge, subject=device.subject, sans=names
            )
            device.enroll(NDES)
            log = self.lab.service.log()
            self.show_calls(log)
            self.holds(
                [(one["call"], one["status"]) for one in log]
                == [
                    ("validateRequest", 401),
                    ("validateRequest", 200),
                    ("successNotification", 200),
                ],
                "the service knows no token of before; with a new one it answers",
            )
            issued = self.lab.issued()
            self.holds(
                len(issued) == len(before) + 1 and device.serial() in issued,
                "the same command gets its certificate, and nobody restarted the CA",
            )
