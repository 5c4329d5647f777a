"""``make demo``: a CA on loopback, and a device that enrolls, renews and checks everything.

The CA is a process of its own that embeds ``pyscep.ca``; the device talks real HTTP to it.
At the end the ``openssl`` command, which shares no code with pyscep's parsers, verifies the chain
and the CRL. Exits non-zero when anything is not as it should be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from demo_ca import DemoCa
from demo_view import DemoFailed, View

import pyscep
from pyscep import Client, EnrollmentRefused, Identity, PendingEnrollment, ScepError, Success

LONG_CHALLENGE = 26_400
LONG_QUERY = 40_000
DEVICE = "CN=device-1,O=Demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A key with its certificate."""

    identity: Identity
    chain: tuple[x509.Certificate, ...]


def new_key() -> rsa.RSAPrivateKey:
    """A fresh RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, in the form that the client takes."""
    return "sha256:" + certificate.fingerprint(hashes.SHA256()).hex()


def expect(condition: bool, text: str) -> None:
    """Go on only if it holds.

    Raises:
        DemoFailed: it doesn't.
    """
    if not condition:
        raise DemoFailed(text)


def issued(result: Success | PendingEnrollment, key: rsa.RSAPrivateKey) -> x509.Certificate:
    """The certificate of a result, which has to be for this key."""
    if not isinstance(result, Success):
        raise DemoFailed("the CA did not decide at once")
    certificate = result.certificates[0]
    expect(certificate.public_key() == key.public_key(), "the certificate has another key")
    return certificate


class Demo:
    """The steps, in order."""

    def __init__(self, view: View, ca: DemoCa, folder: Path) -> None:
        self.view = view
        self.ca = ca
        self.folder = folder

    def client(self, method: str = "auto") -> Client:
        """A client that knows the CA by its fingerprint only."""
        assert method in ("auto", "post", "get")
        return Client(self.ca.url, ca_fingerprint=self.ca.fingerprint, method=method)  # type: ignore[arg-type] # checked above

    def discover(self) -> pyscep.CaCertificates:
        """GetCACaps and GetCACert."""
        with self.view.step(
            "Meet the CA", "Ask what it can do, fetch its certificates, check the fingerprint."
        ):
            capabilities = pyscep.run(self.client().get_ca_caps(), self.view.wire)
            found = pyscep.run(self.client().get_ca_cert(), self.view.wire)
            self.view.show_wire()
            self.view.facts(
                ("can do", " ".join(capabilities.keywords)),
                *(
                    ("certificate", f"{one.subject.rfc4514_string()}, {_key_text(one)}")
                    for one in found.certificates
                ),
                ("CA", fingerprint(found.ca)),
            )
            self.view.good("the fingerprint is the one that the CA showed at its start")
        return found

    def enroll(self, method: str, challenge: str) -> Device:
        """A first certificate."""
        key = new_key()
        csr = pyscep.pkcs10.create(
            key,
            DEVICE,
            challenge_password=challenge,
            sans=[x509.DNSName("device-1.demo.example")],
        )
        result = pyscep.run(self.client(method).enroll(key, csr), self.view.wire)
        self.view.show_wire()
        self.view.facts(("CSR", f"{len(csr.der):,} bytes, challenge of {len(challenge):,}"))
        certificate = issued(result, key)
        self.show(certificate)
        chain = result.certificates[1:] if isinstance(result, Success) else ()
        return Device(identity=Identity(certificate, key), chain=chain)

    def enroll_by_post(self) -> Device:
        """The usual way."""
        with self.view.step(
            "Enroll by POST",
            "A key, a CSR with the challenge inside, encrypted to the CA, signed by the key.",
        ):
            device = self.enroll("post", self.ca.challenge)
            self.view.good(f"certificate {_serial(device.identity.certificate)}")
        return device

    def enroll_by_get(self) -> None:
        """The long way: some MDM systems hand out challenges of many kilobytes."""
        with self.view.step(
            "Enroll by GET, with a query of 40 KB",
            f"A challenge of {LONG_CHALLENGE:,} characters, and the whole message in the URL.",
        ):
            device = self.enroll("get", self.ca.long_challenge)
            query = max(len(one.request.query) for one in self.view.wire.exchanges)
            expect(query >= LONG_QUERY, f"the query has {query} bytes, fewer than {LONG_QUERY}")
            self.view.good(
                f"certificate {_serial(device.identity.certificate)}, {query:,} bytes of query"
            )

    def be_refused(self) -> None:
        """A wrong challenge."""
        with self.view.step(
            "Be refused", "The wrong challenge. The answer says no more than badRequest."
        ):
            key = new_key()
            csr = pyscep.pkcs10.create(key, DEVICE, challenge_password="open sesame")
            try:
                pyscep.run(self.client().enroll(key, csr), self.view.wire)
            except EnrollmentRefused as refusal:
                self.view.show_wire()
                expect(
                    refusal.fail_info is pyscep.FailInfo.BAD_REQUEST,
                    f"refused, but with {refusal.fail_info!r}",
                )
                self.view.facts(*(("the CA's log", line) for line in self.ca.events()[-1:]))
                self.view.good("FAILURE badRequest on the wire; the reason is in the CA's log")
            else:
                raise DemoFailed("a wrong challenge was accepted")

    def renew(self, device: Device) -> Device:
        """A new key, authorized by the old certificate."""
        with self.view.step(
            "Renew", "A new key; the old certificate signs the request, no challenge is needed."
        ):
            key = new_key()
            csr = pyscep.pkcs10.create(
                key, DEVICE, sans=[x509.DNSName("device-1.demo.example")]
            )
            flow = self.client().renew(device.identity, key, csr)
            certificate = issued(pyscep.run(flow, self.view.wire), key)
            self.view.show_wire()
            self.show(certificate)
            old = device.identity.certificate
            expect(certificate.serial_number != old.serial_number, "the old certificate came back")
            self.view.good(f"certificate {_serial(certificate)} follows {_serial(old)}")
        return Device(identity=Identity(certificate, key), chain=device.chain)

    def fetch_crl(self, device: Device) -> bytes:
        """GetCRL."""
        with self.view.step("Fetch the CRL", "Signed by the device, answered encrypted to it."):
            crl_der = pyscep.run(self.client().get_crl(device.identity), self.view.wire)
            self.view.show_wire()
            crl = x509.load_der_x509_crl(crl_der)
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            self.view.facts(
                ("issuer", crl.issuer.rfc4514_string()),
                ("next update", f"{crl.next_update_utc:%Y-%m-%d %H:%M} UTC"),
            )
            self.view.good(f"CRL number {number}, {len(crl)} revoked")
        return crl_der

    def verify(self, device: Device, ca: pyscep.CaCertificates, crl: bytes) -> None:
        """The chain and the CRL, by openssl."""
        with self.view.step(
            "Verify with openssl", "Another implementation looks at the result, from files."
        ):
            roots = [one for one in ca.certificates if one.subject == one.issuer]
            others = [one for one in (*ca.certificates, *device.chain) if one not in roots]
            self._write("root.pem", *roots)
            self._write("chain.pem", *(others or roots))
            self._write("device.pem", device.identity.certificate)
            (self.folder / "crl.pem").write_bytes(
                x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM)
            )
            self._openssl("crl", "-in", "crl.pem", "-noout", "-CAfile", "root.pem")
            self._openssl("x509", "-in", "device.pem", "-noout", "-subject", "-issuer", "-dates")
            checks = ("-crl_check", "-CRLfile", "crl.pem", "-purpose", "sslclient", "-x509_strict")
            output = self._openssl(
                "verify", "-CAfile", "root.pem", "-untrusted", "chain.pem", *checks, "device.pem"
            )
            expect("device.pem: OK" in output, f"openssl verify: {output.strip()}")
            self.view.good("openssl accepts the chain, and the CRL doesn't list the certificate")

    def show(self, certificate: x509.Certificate) -> None:
        """A certificate in a few lines."""
        self.view.facts(
            ("subject", certificate.subject.rfc4514_string()),
            ("issuer", certificate.issuer.rfc4514_string()),
            ("valid until", f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"),
            ("fingerprint", fingerprint(certificate)),
        )

    def _write(self, name: str, *certificates: x509.Certificate) -> None:
        data = b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
        (self.folder / name).write_bytes(data)

    def _openssl(self, *arguments: str) -> str:
        self.view.console.print(f"  [yellow]$[/] openssl {' '.join(arguments)}")
        done = subprocess.run(
            ["openssl", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        output = done.stdout + done.stderr
        for line in output.strip().splitlines():
            self.view.console.print(f"    {line}", style="dim", markup=False)
        expect(done.returncode == 0, f"openssl {arguments[0]} ended with {done.returncode}")
        return output


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"[:12] + "…"


def _key_text(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__


def play(view: View, folder: Path) -> None:
    """All steps."""
    expect(shutil.which("openssl") is not None, "openssl is missing: apt-get install openssl")
    ca = DemoCa(folder / "ca", long_challenge="0123456789abcdef" * (LONG_CHALLENGE // 16))
    try:
        with view.step("Start a CA", "Keys, certificates, a database, a free port on loopback."):
            ca.start()
            view.facts(
                ("CA", ca.name),
                ("fingerprint", ca.fingerprint),
                ("URL", ca.url),
                ("challenge", f"{ca.challenge} (once)"),
                ("process", str(ca.pid)),
            )
            view.good(f"listening on {ca.url}")
        demo = Demo(view, ca, folder)
        found = demo.discover()
        device = demo.enroll_by_post()
        demo.enroll_by_get()
        demo.be_refused()
        renewed = demo.renew(device)
        demo.verify(renewed, found, demo.fetch_crl(renewed))
        ca.stop()
    except (DemoFailed, ScepError, OSError, subprocess.SubprocessError, ValueError) as error:
        raise DemoFailed(str(error), ca.log()) from error
    finally:
        ca.kill()


def main() -> int:
    """Play the demo; 0 if all went well."""
    view = View()
    view.title(
        "pyscep",
        "SCEP (RFC 8894): a device gets its certificate from a CA, over plain HTTP.",
        "Every message is encrypted and signed; → is what the device sends, ← the answer.",
    )
    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="pyscep-demo-") as folder:
            play(view, Path(folder))
    except DemoFailed as failure:
        view.failed(*failure.args)
        return 1
    except KeyboardInterrupt:
        return 130
    view.summary(
        (
            f"[bold green]All of it worked[/], in {time.perf_counter() - start:.1f} s.",
            "Try it by hand:  .venv/bin/pyscep serve",
            "and then, in another terminal:  .venv/bin/pyscep --help",
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
