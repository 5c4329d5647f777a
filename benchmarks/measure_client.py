"""The client: a key to a PKCSReq, and a CertRep to the verified certificate."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pyscep
from benchmarks import floor, reference
from benchmarks.payloads import CHALLENGE_SIZES, NOW, Enrollment, make_enrollment
from benchmarks.ratios import Results, Settings, compare, note
from pyscep.exchange import Session, issued_certificates, self_signed
from pyscep.pki_message import decode_cert_rep, encode_request


def client(settings: Settings) -> Results:
    """A key to a PKCSReq, and a CertRep to the verified certificate."""
    results: Results = {}
    case = make_enrollment("small", CHALLENGE_SIZES["small"])
    key, ca = case.signer.private_key, case.identity
    name = case.csr.subject_name

    measured = compare(
        settings,
        floor.client_build_floor(case.floor),
        builder(case),
        lambda: reference.build(key, name, case.challenge, ca.certificate),
    )
    note(results, "client build", measured[0])
    note(results, "client build reference", measured[1])
    reply = case.server.handle(case.request, case.authority).body
    nonce = case.transaction.sender_nonce
    measured = compare(
        settings,
        floor.client_reply_floor(case.floor),
        read_reply(case, reply),
        read_reply(case, _reply_of_three(case)),
        lambda: reference.open_reply(reply, ca.certificate, key, nonce),
    )
    note(results, "client CertRep", measured[0])
    note(results, "client CertRep of 3", measured[1])
    note(results, "client CertRep reference", measured[2])
    return results


def builder(case: Enrollment) -> Callable[[], bytes]:
    """A key to a PKCSReq, as ``pkcs10.create`` and ``Client.enroll`` do it."""
    key, name = case.signer.private_key, case.csr.subject_name

    def build() -> bytes:
        csr = pyscep.pkcs10.create(key, name, challenge_password=case.challenge)
        return encode_request(
            pyscep.PKCSReq(csr=csr),
            transaction=case.transaction,
            signer=self_signed(key, csr, now=NOW, token_bytes=secrets.token_bytes),
            recipient=case.identity.raw,
            algorithms=pyscep.Algorithms(),
            token_bytes=secrets.token_bytes,
        )

    return build


def read_reply(case: Enrollment, reply: bytes) -> Callable[[], pyscep.Success]:
    """The client's side of an answer, as ``Client.enroll`` does it."""
    raw = case.identity.raw
    session = Session(
        ca=raw,
        recipient=raw,
        signers=(raw,),
        authorities=(raw,),
        algorithms=pyscep.Algorithms(),
        post=True,
        identity=case.signer,
    )

    def read() -> pyscep.Success:
        found = decode_cert_rep(
            reply,
            transaction=case.transaction,
            signers=session.signers,
            recipient=case.signer,
            policy=pyscep.MODERN,
            token_bytes=secrets.token_bytes,
        )
        return issued_certificates(found, session, case.csr.spki, pyscep.MODERN)

    return read


def _reply_of_three(case: Enrollment) -> bytes:
    def authority(request: pyscep.PkiRequest) -> pyscep.Outcome:
        outcome = case.authority(request)
        assert isinstance(outcome, pyscep.Success)
        other = make_enrollment("other", 24).signer.certificate
        return pyscep.Success(
            certificates=(*outcome.certificates, case.identity.certificate, other)
        )

    return case.server.handle(case.request, authority).body
