"""SCEP written the straightforward way, with asn1crypto and cryptography: what pyscep is measured
against.

It does what an enrollment needs and checks what has to be checked; it is no library: one
algorithm, one shape, no tolerance. Keys are loaded once by whoever calls.
"""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from asn1crypto import algos, cms, core, csr
from asn1crypto import crl as asn1_crl
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID

from benchmarks.payloads import NOW

PKCS1 = padding.PKCS1v15()
SHA256 = hashes.SHA256()
MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
PKI_STATUS = "2.16.840.1.113733.1.9.3"
SENDER_NONCE = "2.16.840.1.113733.1.9.5"
RECIPIENT_NONCE = "2.16.840.1.113733.1.9.6"
TRANSACTION_ID = "2.16.840.1.113733.1.9.7"


def decode_query(query: bytes) -> bytes:
    """The message of a GET query."""
    text = query.decode("ascii").partition("message=")[2]
    return base64.b64decode(unquote(text))


def fields(message: bytes) -> dict[str, Any]:
    """All that SCEP needs of both layers of a request."""
    signed = cms.ContentInfo.load(message)["content"]
    info = signed["signer_infos"][0]
    attributes = {one["type"].native: one["values"][0] for one in info["signed_attrs"]}
    content = signed["encap_content_info"]["content"].native
    sid = info["sid"].chosen
    enveloped = cms.ContentInfo.load(content)["content"]
    recipient = enveloped["recipient_infos"][0].chosen
    encrypted = enveloped["encrypted_content_info"]
    algorithm = encrypted["content_encryption_algorithm"]
    return {
        "info": info,
        "attributes": attributes,
        "message_type": attributes[MESSAGE_TYPE].native,
        "transaction_id": attributes[TRANSACTION_ID].native,
        "sender_nonce": attributes[SENDER_NONCE].native,
        "message_digest": attributes["message_digest"].native,
        "content": content,
        "issuer": sid["issuer"].dump(),
        "serial_number": sid["serial_number"].native,
        "digest": info["digest_algorithm"]["algorithm"].native,
        "signature_algorithm": info["signature_algorithm"]["algorithm"].native,
        "signature": info["signature"].native,
        "certificates": [one.chosen for one in signed["certificates"]],
        "recipient_issuer": recipient["rid"].chosen["issuer"].dump(),
        "recipient_serial_number": recipient["rid"].chosen["serial_number"].native,
        "key_transport": recipient["key_encryption_algorithm"]["algorithm"].native,
        "encrypted_key": recipient["encrypted_key"].native,
        "cipher": algorithm["algorithm"].native,
        "iv": algorithm["parameters"].native,
        "ciphertext": encrypted["encrypted_content"].native,
    }


def handle(
    query: bytes, certificate: x509.Certificate, key: rsa.RSAPrivateKey, challenge: str
) -> bytes:
    """Answer a PKCSReq with a certificate."""
    found = fields(decode_query(query))
    if found["message_type"] != "19":
        raise ValueError("not a PKCSReq")
    signer = _verify(found, found["certificates"])
    plaintext = _open(found, key)
    request = x509.load_der_x509_csr(plaintext)
    if not request.is_signature_valid:
        raise ValueError("the CSR's signature is wrong")
    wanted = csr.CertificationRequest.load(plaintext)["certification_request_info"]
    words = {one["type"].native: one["values"][0].native for one in wanted["attributes"]}
    if words.get("challenge_password") != challenge:
        raise ValueError("wrong challenge")
    issued = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(certificate.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .sign(key, SHA256)
    )
    return reply(found, signer, certificate, key, [issued.public_bytes(Encoding.DER)])


def reply(
    found: dict[str, Any],
    recipient: asn1_x509.Certificate,
    certificate: x509.Certificate,
    key: rsa.RSAPrivateKey,
    certificates: list[bytes],
    crls: list[bytes] | None = None,
) -> bytes:
    """A CertRep with SUCCESS."""
    bag: dict[str, Any] = {
        "version": "v1",
        "digest_algorithms": [],
        "encap_content_info": {"content_type": "data"},
        "signer_infos": [],
    }
    if certificates:
        bag["certificates"] = [asn1_x509.Certificate.load(one) for one in certificates]
    if crls:
        bag["crls"] = [asn1_crl.CertificateList.load(one) for one in crls]
    degenerate = cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(bag)})
    content = _seal(degenerate.dump(), recipient)
    attributes = [
        (MESSAGE_TYPE, core.Any(core.PrintableString("3"))),
        (PKI_STATUS, core.Any(core.PrintableString("0"))),
        (TRANSACTION_ID, core.Any(core.PrintableString(found["transaction_id"]))),
        (SENDER_NONCE, core.Any(core.OctetString(os.urandom(16)))),
        (RECIPIENT_NONCE, core.Any(core.OctetString(found["sender_nonce"]))),
    ]
    own = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    return _sign(content, attributes, own, key)


def build(
    key: rsa.RSAPrivateKey, subject: x509.Name, challenge: str, ca: x509.Certificate
) -> bytes:
    """A PKCSReq for a key: CSR, self-signed certificate, envelope, signature."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
        .sign(key, SHA256)
    )
    own = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=7))
        .sign(key, SHA256)
    )
    recipient = asn1_x509.Certificate.load(ca.public_bytes(Encoding.DER))
    content = _seal(request.public_bytes(Encoding.DER), recipient)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    attributes = [
        (MESSAGE_TYPE, core.Any(core.PrintableString("19"))),
        (TRANSACTION_ID, core.Any(core.PrintableString(hashlib.sha256(spki).hexdigest()))),
        (SENDER_NONCE, core.Any(core.OctetString(os.urandom(16)))),
    ]
    signer = asn1_x509.Certificate.load(own.public_bytes(Encoding.DER))
    return _sign(content, attributes, signer, key)


def open_reply(
    message: bytes, ca: x509.Certificate, key: rsa.RSAPrivateKey, sender_nonce: bytes
) -> x509.Certificate:
    """The verified certificate of a CertRep."""
    bag = _open_bag(message, ca, key, sender_nonce)
    issued = x509.load_der_x509_certificate(bag["certificates"][0].chosen.dump())
    issued.verify_directly_issued_by(ca)
    return issued


def open_crl_reply(
    message: bytes, ca: x509.Certificate, key: rsa.RSAPrivateKey, sender_nonce: bytes
) -> bytes:
    """The verified CRL of a CertRep."""
    bag = _open_bag(message, ca, key, sender_nonce)
    data: bytes = bag["crls"][0].chosen.dump()
    if not x509.load_der_x509_crl(data).is_signature_valid(ca.public_key()):
        raise ValueError("the CRL's signature is wrong")
    return data


def handle_get_crl(
    message: bytes, certificate: x509.Certificate, key: rsa.RSAPrivateKey, crl: bytes
) -> bytes:
    """Answer a GetCRL."""
    found = fields(message)
    signer = _verify(found, found["certificates"])
    cms.IssuerAndSerialNumber.load(_open(found, key)).native["serial_number"]
    return reply(found, signer, certificate, key, [], [crl])


def _open_bag(
    message: bytes, ca: x509.Certificate, key: rsa.RSAPrivateKey, sender_nonce: bytes
) -> cms.SignedData:
    found = fields(message)
    _verify(found, [asn1_x509.Certificate.load(ca.public_bytes(Encoding.DER))])
    if found["message_type"] != "3" or found["attributes"][PKI_STATUS].native != "0":
        raise ValueError("not a SUCCESS")
    if found["attributes"][RECIPIENT_NONCE].native != sender_nonce:
        raise ValueError("the answer to another request")
    return cms.ContentInfo.load(_open(found, key))["content"]


def _verify(
    found: dict[str, Any], candidates: list[asn1_x509.Certificate]
) -> asn1_x509.Certificate:
    for certificate in candidates:
        tbs = certificate["tbs_certificate"]
        if (
            tbs["serial_number"].native == found["serial_number"]
            and tbs["issuer"].dump() == found["issuer"]
        ):
            break
    else:
        raise ValueError("the signer's certificate is not there")
    if hashlib.sha256(found["content"]).digest() != found["message_digest"]:
        raise ValueError("wrong messageDigest")
    key = x509.load_der_x509_certificate(certificate.dump()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(found["signature"], found["info"]["signed_attrs"].untag().dump(), PKCS1, SHA256)
    return certificate


def _open(found: dict[str, Any], key: rsa.RSAPrivateKey) -> bytes:
    content_key = key.decrypt(found["encrypted_key"], PKCS1)
    decryptor = Cipher(AES(content_key), CBC(found["iv"])).decryptor()
    padded = decryptor.update(found["ciphertext"]) + decryptor.finalize()
    unpadder = block_padding.PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _seal(data: bytes, recipient: asn1_x509.Certificate) -> bytes:
    key, iv = os.urandom(16), os.urandom(16)
    padder = block_padding.PKCS7(128).padder()
    padded = padder.update(data) + padder.finalize()
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    public = x509.load_der_x509_certificate(recipient.dump()).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    info = cms.KeyTransRecipientInfo(
        {
            "version": "v0",
            "rid": _identifier(recipient, cms.RecipientIdentifier),
            "key_encryption_algorithm": {"algorithm": "rsaes_pkcs1v15"},
            "encrypted_key": public.encrypt(key, PKCS1),
        }
    )
    enveloped = cms.EnvelopedData(
        {
            "version": "v0",
            "recipient_infos": [cms.RecipientInfo("ktri", info)],
            "encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": algos.EncryptionAlgorithm(
                    {"algorithm": "aes128_cbc", "parameters": iv}
                ),
                "encrypted_content": ciphertext,
            },
        }
    )
    encoded: bytes = cms.ContentInfo(
        {"content_type": "enveloped_data", "content": enveloped}
    ).dump()
    return encoded


def _sign(
    content: bytes,
    attributes: list[tuple[str, Any]],
    certificate: asn1_x509.Certificate,
    key: rsa.RSAPrivateKey,
) -> bytes:
    digest = hashlib.sha256(content).digest()
    everything = [
        ("content_type", cms.ContentType("data")),
        ("message_digest", core.OctetString(digest)),
        *attributes,
    ]
    signed = cms.CMSAttributes(
        [cms.CMSAttribute({"type": name, "values": [value]}) for name, value in everything]
    )
    info = cms.SignerInfo(
        {
            "version": "v1",
            "sid": _identifier(certificate, cms.SignerIdentifier),
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": signed,
            "signature_algorithm": {"algorithm": "rsassa_pkcs1v15"},
            "signature": key.sign(signed.dump(), PKCS1, SHA256),
        }
    )
    encoded: bytes = cms.ContentInfo(
        {
            "content_type": "signed_data",
            "content": cms.SignedData(
                {
                    "version": "v1",
                    "digest_algorithms": [{"algorithm": "sha256"}],
                    "encap_content_info": {"content_type": "data", "content": content},
                    "certificates": [certificate],
                    "signer_infos": [info],
                }
            ),
        }
    ).dump()
    return encoded


def _identifier(certificate: asn1_x509.Certificate, kind: type) -> Any:
    tbs = certificate["tbs_certificate"]
    return kind(
        "issuer_and_serial_number",
        cms.IssuerAndSerialNumber(
            {"issuer": tbs["issuer"], "serial_number": tbs["serial_number"].native}
        ),
    )
