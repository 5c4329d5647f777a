"""The matrix: which client meets which endpoint, and which cells a peer has no feature for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

OUR_SERVER = "our server, real clients"
OUR_CLIENT = "our client, micromdm's scepserver 2.1.0"

SERVER_COLUMNS = (
    "POST",
    "GET",
    "wrong, right",
    "pending",
    "renewal",
    "rekey",
    "ASGI",
    "pyscep serve",
)
CLIENT_COLUMNS = (
    "POST",
    "GET",
    "wrong, right",
    "pending",
    "renewal",
    "rekey",
    "no legacy",
    "pyscep enroll",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A client on an endpoint."""

    table: str
    client: str
    topology: str
    policy: str = "modern"
    cipher: str = ""
    absent: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Columns that this peer has no feature for, with the reason."""

    @property
    def id(self) -> str:
        words = (self.client, self.cipher, self.topology, self.policy)
        return " ".join(word for word in words if word)


SERVE_ABSENT = {
    "pyscep serve": "the command makes one RA certificate; two take the Python interface",
}
STRONGSWAN_ABSENT = {
    "GET": "strongSwan 5.9.8 tests other capability bits than it means to: whatever lets it "
    "choose a cipher also lets it POST, announced or not",
}
CERTMONGER_ABSENT = {
    "POST": "certmonger 0.79.17 sends every PKIOperation by GET: its helper has no POST",
}
SCEPCLIENT_ABSENT = {
    "rekey": "micromdm's client takes one -private-key, which both signs the renewal and is "
    "certified: an old certificate with a new key is beyond it",
}
SCEPSERVER_ABSENT = {
    "pending": "micromdm's server never answers PENDING: it issues or refuses at once",
}


def absent(of_client: Mapping[str, str], topology: str) -> Mapping[str, str]:
    return {**of_client, **(SERVE_ABSENT if topology == "ra-split" else {})}


SERVER_ROWS = (
    *(
        Row(
            table=OUR_SERVER,
            client="strongSwan",
            cipher=cipher,
            topology=topology,
            policy=policy,
            absent=absent(STRONGSWAN_ABSENT, topology),
        )
        for cipher, topology, policy in (
            ("aes", "ca", "modern"),
            ("aes", "ra", "modern"),
            ("aes", "ra-split", "modern"),
            ("des3", "ca", "compatible"),
            ("des3", "ra-split", "compatible"),
        )
    ),
    *(
        Row(
            table=OUR_SERVER,
            client="certmonger",
            topology=topology,
            absent=absent(CERTMONGER_ABSENT, topology),
        )
        for topology in ("ca", "ra", "ra-split")
    ),
    *(
        Row(
            table=OUR_SERVER,
            client="scepclient",
            topology=topology,
            policy="legacy",
            absent=absent(SCEPCLIENT_ABSENT, topology),
        )
        for topology in ("ca", "ra", "ra-split")
    ),
)

CLIENT_ROWS = (
    Row(
        table=OUR_CLIENT,
        client="pyscep",
        topology="ca",
        policy="legacy",
        absent=SCEPSERVER_ABSENT,
    ),
)


def having(column: str, rows: tuple[Row, ...]) -> list[Row]:
    """The rows whose client can do what the column asks."""
    return [row for row in rows if column not in row.absent]


ENVELOPES = "openssl cms as an independent judge: EnvelopedData"
SIGNATURES = "openssl cms as an independent judge: SignedData"
CIPHER_COLUMNS = ("aes128-cbc", "aes192-cbc", "aes256-cbc", "des-ede3-cbc", "des-cbc")
MESSAGES = "openssl cms as an independent judge: whole messages of ours, inside out"
IN_KIND = "openssl's envelope to our server, our server's reply to openssl"
DIGEST_COLUMNS = ("md5", "sha1", "sha256", "sha384", "sha512")

ENVELOPE_ROWS = tuple(
    Row(table=ENVELOPES, client=client, topology=options, policy="")
    for client, options in (
        ("pyscep encrypts", "rsaEncryption"),
        ("pyscep encrypts", "OAEP"),
        ("pyscep encrypts", "OAEP sha256"),
        ("pyscep encrypts", "OAEP sha256, MGF1 sha1"),
        ("openssl encrypts", "rsaEncryption"),
        ("openssl encrypts", "OAEP"),
        ("openssl encrypts", "OAEP sha256"),
        ("openssl encrypts", "OAEP sha256, MGF1 sha1"),
        ("openssl encrypts", "rsaEncryption + -keyid"),
        ("openssl encrypts", "rsaEncryption + -stream"),
        ("openssl encrypts", "OAEP sha256 + -keyid + -stream"),
    )
)
SIGNATURE_ROWS = tuple(
    Row(
        table=SIGNATURES,
        client=client,
        topology=options,
        policy="",
        absent={"md5": "OpenSSL refuses to make RSASSA-PSS with MD5"} if "pss" in options else {},
    )
    for client, options in (
        ("pyscep signs", "rsaEncryption"),
        ("pyscep signs", "shaNNNWithRSA"),
        ("pyscep signs", "empty eContent"),
        ("pyscep signs", "absent eContent"),
        ("openssl signs", "plain"),
        ("openssl signs", "plain + -keyid"),
        ("openssl signs", "plain + -stream"),
        ("openssl signs", "plain + -keyopt rsa_padding_mode:pss"),
    )
)

MESSAGE_ROWS = tuple(
    Row(table=MESSAGES, client=message, topology=transport, policy="")
    for message in ("PKCSReq", "RenewalReq", "CertPoll", "CertRep")
    for transport in ("rsaEncryption", "OAEP", "OAEP sha256")
)

IN_KIND_ROWS = tuple(
    Row(table=IN_KIND, client="openssl", topology=row.topology, policy="")
    for row in ENVELOPE_ROWS
    if row.client == "openssl encrypts"
)


TABLES = (
    (OUR_SERVER, SERVER_COLUMNS, SERVER_ROWS),
    (OUR_CLIENT, CLIENT_COLUMNS, CLIENT_ROWS),
    (ENVELOPES, CIPHER_COLUMNS, ENVELOPE_ROWS),
    (SIGNATURES, DIGEST_COLUMNS, SIGNATURE_ROWS),
    (MESSAGES, CIPHER_COLUMNS, MESSAGE_ROWS),
    (IN_KIND, CIPHER_COLUMNS, IN_KIND_ROWS),
)
