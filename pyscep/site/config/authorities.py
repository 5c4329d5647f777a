"""``[ca.NAME]``: CAs, and those that follow them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pyscep.site.config.basis import KeyPair, Name, Secret, Section


class GenerationConfig(KeyPair):
    """The CA after or before the one of the table, and its addresses."""

    name: Name = Field(
        description="What it is called in the addresses of its CRL and certificate, such as "
        "`main-2`. Keep it when the CA becomes the present one."
    )
    ra: KeyPair | None = Field(
        default=None, description="The RA that talks to clients; without it the CA does so itself."
    )
    ra_encryption: KeyPair | None = Field(
        default=None, description="A second RA, that requests are encrypted to."
    )
    crl_urls: tuple[str, ...] = Field(default=(), description="http addresses of its CRL.")
    issuer_urls: tuple[str, ...] = Field(
        default=(), description="http addresses of its certificate."
    )

    @model_validator(mode="after")
    def _signs(self) -> GenerationConfig:
        if self.ra_encryption is not None and self.ra is None:
            raise ValueError("ra_encryption needs an ra that signs")
        return self


class CaConfig(Section):
    """``[ca.NAME]``: a CA, with its RA and its database."""

    directory: Path | None = Field(
        default=None,
        description="A directory that `pyscep config init` or `pyscep serve` made. Or give "
        "`certificate` and `key`.",
    )
    certificate: Path | None = Field(
        default=None, description="PEM file of the CA's certificate; the chain may follow in it."
    )
    key: Path | None = Field(default=None, description="PEM file of the CA's private key.")
    passphrase: Secret | None = Field(
        default=None, description="Of the key file, or of all key files in the directory."
    )
    ra: KeyPair | None = Field(
        default=None, description="The RA that talks to clients; without it the CA does so itself."
    )
    ra_encryption: KeyPair | None = Field(
        default=None,
        description="A second RA, that requests are encrypted to; then `ra` only signs.",
    )
    database: str | None = Field(
        default=None,
        description="SQLAlchemy URL; by default `scep.db` in the directory, or beside the "
        "configuration.",
    )
    digest: Literal["sha256", "sha384", "sha512"] = Field(
        default="sha256", description="Of the signatures on certificates and CRLs."
    )
    revocation: bool = Field(
        default=True, description="Whether certificates can be revoked; then `crl_urls` is needed."
    )
    crl_urls: tuple[str, ...] = Field(
        default=(),
        description="http addresses of the CRL, for certificates (CDP) and the CRL itself (IDP). "
        "Windows refuses chains without. Keep old ones while certificates name them. Of a "
        "directory with several CAs those of the first one, ending in `/NAME.crl`; then "
        "`/NAME-2.crl` and so on are the others'.",
    )
    issuer_urls: tuple[str, ...] = Field(
        default=(),
        description="http addresses of the CA's certificate, for certificates (AIA); likewise.",
    )
    next: GenerationConfig | None = Field(
        default=None,
        description="The CA that is to follow (RFC 8894 section 4.7), where this one is not a "
        "directory: handed out by GetNextCACert, and issuing to who asks for it.",
    )
    previous: tuple[GenerationConfig, ...] = Field(
        default=(),
        description="CAs that this one has followed, the latest first, likewise: their "
        "certificates are still renewed, revoked and listed.",
    )
    name: Name | None = Field(
        default=None,
        description="What it is called in the addresses of its CRL and certificate, in place of "
        "NAME: after a rollover of key files, NAME goes on with the CA before.",
    )
    crl_lifetime_hours: int = Field(
        default=168, ge=1, le=8760, description="Hours from thisUpdate to nextUpdate of a CRL."
    )

    @model_validator(mode="after")
    def _keys(self) -> CaConfig:
        if self.directory is None:
            if self.certificate is None or self.key is None:
                raise ValueError("give a directory, or a certificate and a key")
        elif any((self.certificate, self.key, self.ra, self.ra_encryption)):
            raise ValueError("a directory has its own certificates and keys: give either")
        elif self.next or self.previous or self.name:
            raise ValueError(
                "a directory knows its CAs: let another one follow by `pyscep ca rollover`"
            )
        if self.ra_encryption is not None and self.ra is None:
            raise ValueError("ra_encryption needs an ra that signs")
        others = (*self.previous, *(() if self.next is None else (self.next,)))
        if self.revocation and not all(one.crl_urls for one in others):
            raise ValueError("revocation needs crl_urls of the next and the previous CAs, too")
        if self.revocation and not self.crl_urls:
            raise ValueError(
                "revocation needs crl_urls, or nobody would find the CRL (and Windows refuses "
                "the certificates): give one such as http://HOST:PORT/crl/NAME.crl, or set "
                "revocation = false"
            )
        return self
