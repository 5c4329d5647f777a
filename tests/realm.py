"""A CertificateAuthority on a store of its own, spoken to in messages of forge.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyscep
from pyscep.http import HttpRequest
from tests import forge
from tests import forge_keys as keys
from tests.ca_setting import Setting, ca_identity

STATIC = "static-secret"


def party_of(identity: pyscep.Identity) -> keys.Party:
    """An identity of the package as a party of forge.py."""
    return keys.Party(identity.private_key, identity.raw.der)


class Realm(Setting):
    """A Setting with a static challenge, for clients that need not behave."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(path, **({"static_challenge": STATIC} | settings))

    @property
    def party(self) -> keys.Party:
        """The CA: opens the envelopes of forged messages."""
        return party_of(self.ca.issuer.identity)

    def message(self, challenge: str | None = STATIC, **knobs: Any) -> forge.Forge:
        """A PKCSReq, with the knobs of forge.pkcs_req."""
        return forge.pkcs_req(self.party, challenge=challenge, **knobs)

    def poll_message(self, transaction_id: str, **knobs: Any) -> forge.Forge:
        data = forge.issuer_and_subject(self.party.subject, keys.client().subject)
        return self.message(
            message_type="20", request=data, transaction_id=transaction_id, **knobs)

    def post(self, message: forge.Forge, ca: Any = None) -> forge.Message:
        """The CertRep to a message."""
        response = self.send(HttpRequest(
            method="POST", path="/scep", query=b"operation=PKIOperation", body=message.build()), ca)
        assert response.status == 200, (response.status, response.body, self.events[-1:])
        return forge.read_message(response.body, der=True)

    def serial(self, message: forge.Forge, ca: Any = None) -> int:
        """The serial number of the certificate that a message gets."""
        reply = self.post(message, ca)
        assert reply.status == "0", self.events[-1]
        (certificate,) = reply.open(message.signer).certificates
        return certificate.serial_number

    def denies(self, message: forge.Forge, reason: str, fail_info: str = "2") -> forge.Message:
        """The message gets a bare FAILURE and nothing is issued; why, is for the operator alone."""
        before = len(self.serials)
        reply = self.post(message)
        assert (reply.status, reply.fail_info) == ("2", fail_info), self.events[-1]
        assert not reply.content
        assert reply.text("fail_info_text") is None
        assert len(self.serials) == before
        assert reason in self.why, self.why
        return reply

    @property
    def why(self) -> str:
        """The reason of the last refusal, wherever it was refused."""
        event = self.events[-1]
        outcome = getattr(event, "outcome", None)
        if outcome is not None:
            return str(outcome.reason)
        error = event.error
        return f"{error} <- {error.__cause__}"


def shape(reply: forge.Message) -> tuple[Any, ...]:
    """What a peer can tell two refusals apart by."""
    return (
        len(reply.raw), reply.status, reply.fail_info, reply.content, reply.digest,
        tuple(kind for kind, _ in reply.attributes), reply.signer_certificate)


def ca_party() -> keys.Party:
    return party_of(ca_identity())
