"""Sealed challenges of the greatest length, made and judged, against their cryptography."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.x509.oid import ExtendedKeyUsageOID

import pyscep
from benchmarks.payloads import NOW, make_identity
from benchmarks.ratios import Results, Settings, Work, compare, note
from pyscep.ca import ChallengeRequest, Granted
from pyscep.cms import enveloped_data, signed_data
from pyscep.integrations.binding import Binding
from pyscep.integrations.sealed import MAX_TEXT, POLICY, SealedChallenges, seal

DATA = 12_700
"""Bytes of the service's own that make a challenge about as long as it may be."""
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
PKCS1, SHA256 = padding.PKCS1v15(), hashes.SHA256()
KEY, IV = bytes(32), bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A challenge with who seals and judges it, and the request that it is for."""

    service: pyscep.Identity
    module: pyscep.Identity
    binding: Binding
    judge: SealedChallenges
    request: ChallengeRequest

    @property
    def text(self) -> str:
        """The challenge."""
        return self.request.password

    def seal(self) -> str:
        """Another one, for the same request."""
        return seal(
            self.binding, service=self.service, recipient=self.module.certificate,
            data=os.urandom(DATA), now=lambda: NOW + timedelta(minutes=1),
        )  # fmt: skip


def make_sealed() -> Sealed:
    """A service, a module, and a device's request with everything in it that is compared."""
    service, module = make_identity("Management service"), make_identity("Policy module")
    name = x509.Name.from_rfc4514_string("CN=device,O=Lab")
    binding = Binding(
        subject=name,
        sans=("dns:device.lab.example",),
        key_usage=("digitalSignature", "keyEncipherment"),
        extended_key_usage=("clientAuth",),
        key="rsa-2048",
    )
    text = seal(
        binding, service=service, recipient=module.certificate, data=os.urandom(DATA),
        now=lambda: NOW + timedelta(minutes=1),
    )  # fmt: skip
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    csr = pyscep.pkcs10.create(
        rsa.generate_private_key(65537, 2048),
        name,
        challenge_password=text,
        sans=[x509.DNSName("device.lab.example")],
        extensions=[
            (usage, True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        ],
    )
    request = ChallengeRequest(
        password=text, csr=csr, endpoint="default", transaction_id="1", source=None,
        now=NOW + timedelta(minutes=2),
    )  # fmt: skip
    judge = SealedChallenges(module, [service.certificate])
    return Sealed(service=service, module=module, binding=binding, judge=judge, request=request)


def floors(case: Sealed) -> tuple[Work, Work]:
    """The cryptography of sealing and of judging: RSA, AES and SHA-256 on the same bytes."""
    envelope = enveloped_data.read_enveloped_data(base64.b64decode(case.text))
    signed = enveloped_data.decrypt(envelope, (case.module,), POLICY, token_bytes=os.urandom)
    message = signed_data.read_signed_data(signed.plaintext)
    content, attributes = message.content, message.signers[0].signed_attributes
    assert content is not None
    assert attributes is not None
    service, module = case.service.private_key, case.module.private_key
    service_public, module_public = service.public_key(), module.public_key()
    signature = service.sign(attributes.raw, PKCS1, SHA256)
    sealed_key = module_public.encrypt(KEY, OAEP)
    ciphertext = envelope.encrypted_content

    def sealing() -> None:
        hashlib.sha256(content).digest()
        service.sign(attributes.raw, PKCS1, SHA256)
        module_public.encrypt(KEY, OAEP)
        _run(Cipher(AES(KEY), CBC(IV)).encryptor, ciphertext)

    def judging() -> None:
        module.decrypt(sealed_key, OAEP)
        _run(Cipher(AES(KEY), CBC(IV)).decryptor, ciphertext)
        hashlib.sha256(content).digest()
        service_public.verify(signature, attributes.raw, PKCS1, SHA256)

    return sealing, judging


def _run(start: Callable[[], object], data: bytes) -> None:
    context = start()
    context.update(data)  # type: ignore[attr-defined] # a CipherContext
    context.finalize()  # type: ignore[attr-defined] # as above


def sealed(settings: Settings) -> Results:
    """A challenge of 24 KB: making it, and comparing a request with it."""
    case = make_sealed()
    assert MAX_TEXT - 500 < len(case.text) <= MAX_TEXT
    assert isinstance(case.judge.verify(case.request), Granted)
    sealing, judging = floors(case)
    results: Results = {"sealed characters": len(case.text)}
    (making,) = compare(settings, sealing, case.seal)
    note(results, "seal 24k", making)
    (comparing,) = compare(settings, judging, lambda: case.judge.verify(case.request))
    note(results, "sealed verify 24k", comparing)
    return results
