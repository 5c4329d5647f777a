"""``make demo-intune``: in place of NDES, with Intune, on loopback and with real processes.

A management service (the fake Intune of the tests), ``pyscep serve`` with the configuration of
docs/examples/intune, nginx with the recipe of docs/deploy, devices that are the ``pyscep`` command,
and ``openssl`` as the judge. Every line with a check mark is something that was tested; the first
that is not so ends the demo with a non-zero exit code.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from demo_intune_device import NDES, SID, TAG, TRANSPORT, Device
from demo_intune_lab import HOST, Lab, missing
from demo_intune_later import LaterStory
from demo_intune_processes import listens
from demo_intune_sealed import SealedStory
from demo_intune_steps import CHALLENGE, IntuneSteps, fetch, short
from demo_view import DemoFailed, View

QUERY = 40_000


class Story(IntuneSteps):
    """Set-up and enrollment, in order."""

    def start_service(self) -> None:
        """Login, Graph and Intune."""
        with self.view.step(
            "Start the management service",
            "A stand-in for Intune: login, Graph and the validation service, over TLS.",
        ):
            self.lab.service.start()
            self.view.facts(("URL", self.lab.service.url), ("process", str(self.lab.service.pid)))
            self.holds(listens(self.lab.service.port), "the service listens")

    def set_up(self) -> None:
        """A CA, its configuration, the server and nginx."""
        lab, site = self.lab, self.lab.site
        with self.view.step(
            "Set up the CA in place of NDES",
            "The files of docs/examples/intune, with the addresses of this demo.",
        ):
            site.mkdir()
            lab.pyscep("config", "init", "--topology", "ndes", cwd=site)
            lab.own_certificate("module", "/CN=policy module", site)
            lab.make_sealing_service()
            lab.copy_configuration()
            services = lab.pyscep("intune", "check", "--config", "intune.toml", cwd=site).out
            self.holds("ScepRequestValidationFEService" in services, "Intune answers to the CA")
            checked = lab.pyscep("config", "check", cwd=site).out
            self.holds("scep.toml can be served." in checked, "the configuration can be served")
        with self.view.step(
            "Start the server, and nginx before it", "nginx has the recipe of docs/deploy/nginx.md."
        ):
            server = lab.start_server()
            ready = server.ready()
            for one in ready["endpoints"]:
                self.view.facts((one["name"], one["url"]))
            lab.start_nginx()
            self.view.facts(("nginx", lab.url("")))
            capabilities, kind = fetch(lab.url(f"{NDES}?operation=GetCACaps"))
            self.holds(
                b"Renewal" in capabilities and kind == "text/plain",
                f"SCEP through nginx: {' '.join(capabilities.decode().split())}",
            )
            status = lab.status("/CertSrv/MSCEP/MSCEP.DLL")
            self.holds(status == 403, "a plain GET gets 403, as from NDES under Intune's module")
            root, _ = fetch(lab.url("/aia/main.cer"))
            (lab.folder / "ca.der").write_bytes(root)
            lab.openssl("x509", "-inform", "DER", "-in", "ca.der", "-out", "ca.pem", cwd=lab.folder)
            seen = lab.openssl(
                "x509", "-in", "ca.pem", "-noout", "-fingerprint", "-sha256", cwd=lab.folder
            )
            shown = ready["endpoints"][0]["fingerprint"].removeprefix("sha256:")
            self.holds(
                seen.strip().rpartition("=")[2].replace(":", "").lower() == shown,
                "the CA's certificate has the fingerprint that the server shows",
            )

    def enroll(self) -> Device:
        """The usual way."""
        with self.view.step(
            "Enroll a device",
            f"Intune mints a challenge of {CHALLENGE:,} characters; the request is one GET.",
        ):
            device = self.device("device-1")
            answer = device.enroll(NDES)
            self.holds(
                (answer.method, answer.path, answer.status) == ("GET", NDES, 200)
                and answer.sent >= QUERY,
                f"GET {NDES}, {answer.sent:,} bytes through nginx",
            )
            log = self.lab.service.log()
            self.show_calls(log)
            self.holds(
                [(one["call"], one["code"]) for one in log]
                == [("validateRequest", "Success"), ("successNotification", "Success")],
                "Intune was asked, and then told of the certificate",
            )
            note = self.lab.service.do("notified", serial=device.serial())
            thumbprint = device.certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - as Intune names certificates
            self.holds(
                note is not None and note["certificateThumbprint"] == thumbprint,
                f"certificate {short(device.serial())}: Intune knows what the device has",
            )
        return device

    def look(self, device: Device) -> None:
        """What the certificate says."""
        with self.view.step("Look at the certificate", "openssl reads it, and is the judge."):
            crl, issuer = f"http://{HOST}/crl/main.crl", f"http://{HOST}/aia/main.cer"
            chain = ("verify", "-CAfile", "ca.pem", "-purpose", "sslclient", "-x509_strict")
            said = self.lab.openssl(*chain, "device.pem", cwd=device.folder)
            self.holds("device.pem: OK" in said, "openssl accepts the chain for TLS clients")
            text = self.lab.openssl(
                "x509", "-in", "device.pem", "-noout", "-text", cwd=device.folder
            )
            self.view.excerpt(text, ("Subject:", "Client Auth", "CA:FALSE", "URI:"))
            self.holds("TLS Web Client Authentication\n" in text, "it is for client authentication")
            self.holds("CA:FALSE" in text, "it is no CA's")
            self.holds(f"URI:{crl}" in text, f"CDP: {crl}")
            self.holds(f"CA Issuers - URI:{issuer}" in text, f"AIA: {issuer}")
            tag = (TAG + SID).encode()
            name = b"\x86" + bytes([len(tag)]) + tag
            der = device.certificate.public_bytes(Encoding.DER)
            self.holds(der.count(name) == 1, f"the SID, byte for byte: {tag.decode()}")

    def keep_back(self) -> None:
        """The success notification fails."""
        with self.view.step(
            "Nothing leaves that Intune has not heard of",
            "The success notification fails with HTTP 500: the certificate is kept back.",
        ):
            device = self.device("device-2")
            self.lab.service.do("fail", route="successNotification")
            answer = device.enroll(NDES, code=TRANSPORT)
            self.holds(
                answer.status == 503 and answer.result["status"] == 503,
                "the device has HTTP 503, and no certificate",
            )
            self.holds("HTTP status 500" in answer.reason, f"the server's log: {answer.reason}")
            log = self.lab.service.log()
            self.show_calls(log)
            self.holds(
                [one["call"] for one in log] == ["validateRequest", "successNotification"],
                "Intune had granted it",
            )
            kept = self.lab.issued()
            self.lab.service.do("refuse", route="successNotification", code="Unknown")
            answer = device.enroll(NDES, code=TRANSPORT)
            self.calls_are([("successNotification", "Unknown")])
            self.holds(answer.status == 503, "the same when Intune answers and does not take it")
            device.enroll(NDES)
            log = self.lab.service.log()
            self.show_calls(log)
            self.holds(
                [one["call"] for one in log] == ["successNotification"]
                and self.lab.service.do("notified", serial=device.serial()) is not None,
                "asked again, the device gets it: Intune was only notified once more",
            )
            self.holds(
                device.serial() in kept and self.lab.issued() == kept,
                f"certificate {short(device.serial())} is the one that was kept back",
            )

    def tamper(self, victim: Device) -> None:
        """Requests that differ from what was announced."""
        with self.view.step(
            "Refuse what was tampered with",
            "Each is well-formed SCEP. The answers are alike; the reasons are in the log.",
        ):
            before, answers = self.lab.issued(), []
            device = self.device("device-3")
            for told, code, changed in (
                ("another subject", "SubjectNameMismatch", {"subject": "CN=administrator,O=Corp"}),
                ("another SID", "SubjectAltNameMismatch", {"uri": f"{TAG}S-1-5-21-1-2-3-500"}),
            ):
                answers.append(self.refused(device, told, code, **changed))
                self.calls_are([("validateRequest", code)])
            other = self.device("device-4")
            other.challenge = device.challenge
            other.deploy()
            told = "another device's challenge"
            answers.append(self.refused(other, told, "SubjectNameMismatch"))
            self.calls_are([("validateRequest", "SubjectNameMismatch")])
            answers.append(
                self.refused(victim, "a challenge again, with another key", "spent", key="new.key")
            )
            self.calls_are([])
            # Intune's profile allows this name, and the CA's template does not.
            stray = Device(lab=self.lab, name="device-5")
            names = [f"{stray.name}.elsewhere.example", stray.names["uri"]]
            stray.challenge = self.lab.service.do(
                "mint", subject=stray.subject, sans=names, size=CHALLENGE
            )
            stray.deploy()
            told = "a name that the template does not allow"
            answers.append(self.refused(stray, told, "dns", dns=names[0]))
            log = self.lab.service.log()
            self.show_calls(log)
            self.holds(
                [(one["call"], one["code"]) for one in log]
                == [("validateRequest", "Success"), ("failureNotification", "Success")],
                "Intune was told of the refusal that is not its own",
            )
            self.lab.alike(answers)
            self.holds(self.lab.issued() == before, "nothing was issued")
            device.enroll(NDES)
            self.calls_are([("validateRequest", "Success"), ("successNotification", "Success")])
            self.holds(
                len(self.lab.issued()) == len(before) + 1,
                "the request that was announced is granted, after the tampered ones",
            )


def play(lab: Lab) -> None:
    """All steps."""
    story = Story(lab)
    story.start_service()
    story.set_up()
    first = story.enroll()
    story.look(first)
    story.keep_back()
    second = Device(lab=lab, name="device-2")
    story.tamper(second)
    later = LaterStory(lab)
    later.revoke(first, second)
    later.outage()
    sealed = SealedStory(lab)
    sealed.enroll()
    sealed.tamper()
    with lab.view.step("Stop", "Every process ends when it is asked to."):
        lab.stop()
        lab.view.good("the server and nginx ended with 0, and nobody listens any more")


def main() -> int:
    """Play the demo; 0 if all went well."""
    view = View()
    view.title(
        "pyscep in place of NDES, with Intune",
        "A management service, a CA behind nginx, devices, and openssl: each a process.",
        "$ is a command that is run; each line with a ✓ was checked.",
    )
    if absent := missing():
        view.failed(absent)
        return 1
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pyscep-demo-intune-") as folder:
        lab = Lab(view, Path(folder))
        try:
            play(lab)
        except (DemoFailed, OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
            view.failed(str(error), lab.said())
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            lab.kill()
    view.summary(
        (
            f"[bold green]All of it worked[/], in {time.perf_counter() - start:.1f} s.",
            "The files: docs/examples/intune. How to move from NDES: docs/from-ndes.md.",
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
