"""The tables of ``scep.toml`` as models: every key with its unit and default.

docs/configuration.md is generated from the descriptions here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pyscep.site.config.authorities import CaConfig
from pyscep.site.config.basis import KeyPair, Name, Secret, Section
from pyscep.site.config.server import ServerConfig

Source = Literal["profile", "request"]
Approval = Literal["automatic", "manual"]
Policy = Literal["modern", "compatible", "legacy"]


class RenewalConfig(Section):
    """``[profile.NAME.renewal]``: new certificates by old ones, without a challenge."""

    allowed: bool = Field(default=True, description="Whether certificates can be renewed at all.")
    same_key: bool = Field(default=True, description="Whether the new one may have the old key.")
    window_days: int | None = Field(
        default=None, ge=1, description="Days before its end from which on; without: at any time."
    )
    grace_days: int = Field(default=0, ge=0, description="Days after its end until which.")
    subject_change: bool = Field(default=False, description="Whether the names may change.")
    approval: Approval = Field(
        default="automatic", description="manual: somebody has to approve it."
    )


class ProfileConfig(Section):
    """``[profile.NAME]``: which keys and names are certified, and what certificates say."""

    preset: Literal["device", "apple", "intune"] = Field(
        default="device", description="What keys that are not given are taken from."
    )
    purpose: Literal["any", "signature", "encryption", "both"] = Field(
        default="any",
        description="For which requests, by the key usage that they ask for. An endpoint takes "
        "its first profile with the request's purpose, or its first one for any.",
    )
    validity_days: int = Field(
        default=365, ge=1, le=36500, description="Days from now to notAfter."
    )
    validity_source: Source = Field(
        default="profile",
        description="request: a shorter validity that a request asks for is granted.",
    )
    backdate_hours: int = Field(
        default=24,
        ge=0,
        le=8760,
        description="Hours from notBefore to now: devices have wrong clocks.",
    )
    key_usage: tuple[str, ...] = Field(
        default=("digitalSignature", "keyEncipherment"), description="RFC 5280 names."
    )
    key_usage_source: Source = Field(
        default="profile", description="request: of those only what a request asks for."
    )
    extended_key_usage: tuple[str, ...] = Field(
        default=("clientAuth",), description="Names, or dotted OIDs."
    )
    optional_extended_key_usage: tuple[str, ...] = Field(
        default=(), description="As before, for those that a request gets if it asks for them."
    )
    subject_rule: str | None = Field(
        default=None,
        description="The subject, with values of the request in it, such as "
        "`CN={dns},O=Example`; without: the request's own.",
    )
    subject_types: tuple[str, ...] = Field(
        default=(), description="Attributes that are taken over; without: all that are known."
    )
    san_types: tuple[str, ...] = Field(
        default=("dns", "ip", "email", "uri"),
        description="Alternative names that are taken over: also `upn`.",
    )
    patterns: dict[str, str] = Field(
        default={}, description="Regular expressions that values of a kind must match as a whole."
    )
    uri_schemes: tuple[str, ...] = Field(
        default=("http", "https", "urn", "spiffe"),
        description="Of URIs that are taken over. `tag` lets SIDs for strong mapping through.",
    )
    wildcards: bool = Field(default=False, description="Allow `*.` at the start of a DNS name.")
    max_sans: int = Field(default=20, ge=0, description="How many alternative names at most.")
    key_algorithms: tuple[str, ...] = Field(default=("rsa",), description="Out of rsa and ec.")
    rsa_bits: tuple[int, int] = Field(
        default=(2048, 4096), description="Least and greatest size, bits."
    )
    ec_curves: tuple[str, ...] = Field(default=("p256", "p384", "p521"), description="Of EC keys.")
    signer_key: Literal["any", "csr"] = Field(
        default="any", description="csr: a request must be signed with the key to be certified."
    )
    approval: Approval = Field(
        default="automatic", description="manual: somebody has to approve it."
    )
    challenge: Literal["required", "optional"] = Field(
        default="required", description="optional: a request without one waits for approval."
    )
    sids: Path | None = Field(
        default=None,
        description='TOML file of Active Directory SIDs by name, such as `"upn:ann@corp.example" = '
        '"S-1-5-21-..."`; certificates for those names get the extension for strong mapping.',
    )
    renewal: RenewalConfig = Field(default=RenewalConfig(), description="See below.")


class StaticConfig(Section):
    """``kind = "static"``: one secret for every device."""

    kind: Literal["static"] = Field(description='"static"')
    secret: Secret = Field(description="What devices send.")


class OneTimeConfig(Section):
    """``kind = "one-time"``: each enrolls one key, once; from `pyscep challenge`."""

    kind: Literal["one-time"] = Field(description='"one-time"')
    lifetime_minutes: int = Field(default=60, ge=1, description="Minutes that one can be used.")


class SealedConfig(Section):
    """``kind = "sealed"``: made by a management service for one request each."""

    kind: Literal["sealed"] = Field(description='"sealed"')
    recipient: KeyPair = Field(description="What services encrypt to (RSA).")
    services: tuple[Path, ...] = Field(
        min_length=1, description="PEM files of the certificates that may sign."
    )


class HookConfig(Section):
    """One receiver of webhooks."""

    url: str = Field(description="https, or http on this machine.")
    id: str = Field(default="", description="Sent as `X-Smallstep-Webhook-ID`.")
    secret: Secret | None = Field(default=None, description="Key of the signature, in base64.")
    bearer_token: Secret | None = Field(default=None, description="For `Authorization: Bearer`.")
    user: str | None = Field(default=None, description="For `Authorization: Basic`.")
    password: Secret | None = Field(default=None, description="For `Authorization: Basic`.")

    @model_validator(mode="after")
    def _authorization(self) -> HookConfig:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        return self


class WebhookConfig(Section):
    """``kind = "webhook"``: a service is asked about each challenge."""

    kind: Literal["webhook"] = Field(description='"webhook"')
    ask: tuple[HookConfig, ...] = Field(
        min_length=1, description="Who is asked, in turn; the first that allows counts."
    )
    notify: tuple[HookConfig, ...] = Field(
        default=(), description="Who has to hear of a certificate before the device gets it."
    )
    lifetime_minutes: int = Field(
        default=60, ge=1, description="Minutes that the same request gets the same certificate."
    )
    timeout_seconds: float = Field(default=10.0, gt=0, le=60, description="Seconds for one answer.")
    roots: Path | None = Field(
        default=None, description="PEM file of the only CAs to trust for https."
    )


class IntuneConfig(Section):
    """``kind = "intune"``: Microsoft Intune is asked about each challenge, and told of the end."""

    kind: Literal["intune"] = Field(description='"intune"')
    settings: Path = Field(
        description="TOML file with tenant and app registration; docs/intune.md has its keys."
    )
    wait_for_success_notification: bool = Field(
        default=True,
        description="false: the device gets its certificate before Intune has heard of it.",
    )


ChallengeConfig = Annotated[
    StaticConfig | OneTimeConfig | SealedConfig | WebhookConfig | IntuneConfig,
    Field(discriminator="kind"),
]


class NdesConfig(Section):
    """``[endpoint.NAME.ndes]``: what only an endpoint of the kind `ndes` has."""

    accounts: Path | None = Field(
        default=None,
        description="File of the accounts for the password page, lines of name and hash as "
        "`pyscep config account` makes them; without: there is no page.",
    )
    plain_get: Literal["page", "forbidden"] = Field(
        default="page", description="What a GET without operation gets: forbidden is 403."
    )
    encoding: Literal["utf-16-le", "utf-8"] = Field(
        default="utf-16-le", description="Of the pages."
    )
    registry: dict[str, Any] = Field(
        default={},
        description="Settings by the names that NDES has for them, such as `PasswordMax = 20`.",
    )


class EndpointConfig(Section):
    """``[endpoint.NAME]``: one address for clients.

    The name stays in the store: keep it. ``default`` goes on with what `pyscep serve` began.
    """

    kind: Literal["scep", "ndes"] = Field(
        default="scep", description="ndes: with the addresses and pages of Microsoft's NDES."
    )
    path: str = Field(
        description="With all that is below; of an ndes endpoint such as `/certsrv`.",
        pattern=r"^/[A-Za-z0-9._~/-]*$",
    )
    ignore_case: bool = Field(
        default=False,
        description="Take the path in any case of letters; an ndes endpoint always does.",
    )
    ca: Name = Field(description="A name under `[ca]`.")
    profiles: tuple[Name, ...] = Field(
        min_length=1, description="Names under `[profile]`; the first is the default."
    )
    challenges: tuple[Name, ...] = Field(
        default=(),
        description="Names under `[challenge]`; any of them lets a device in. Without: nobody "
        "new enrolls (at an ndes endpoint: the passwords of its page).",
    )
    policy: Policy | None = Field(
        default=None,
        description="Algorithms; without: modern, and compatible for an ndes endpoint or one "
        "with a challenge of Intune's.",
    )
    signing_time_window_minutes: int | None = Field(
        default=None,
        ge=1,
        description="Minutes by which the signingTime of a message may differ from this clock; "
        "without: by any, since phones have wrong clocks.",
    )
    capabilities: tuple[str, ...] | None = Field(
        default=None, description="What GetCACaps says; without: what follows from the settings."
    )
    ca_certificates: Literal["issuer", "ra+issuer", "chain"] = Field(
        default="chain",
        description="What GetCACert gives: the issuing CA alone (only where there is no RA), RA "
        "and issuing CA, or these and the chain above.",
    )
    reply_certificates: Literal["issued", "issued+issuer", "chain"] = Field(
        default="issued",
        description="What comes with an issued certificate: nothing, the issuing CA (Cisco's VPN "
        "wants it), or the whole chain. Juniper wants nothing.",
    )
    empty_content: bool = Field(
        default=True, description="FAILURE and PENDING with an empty content, which clients need."
    )
    renewal: bool = Field(default=True, description="Announce the capability Renewal.")
    legacy_renewal: bool = Field(
        default=True, description="A PKCSReq that a certificate of ours signed can be a renewal."
    )
    redelivery_minutes: int = Field(
        default=20, ge=0, description="Minutes that the same request gets the same certificate."
    )
    public_certificates: bool = Field(
        default=False, description="GetCert gives known clients everybody's certificates."
    )
    trusted_renewal_issuers: Path | None = Field(
        default=None, description="PEM file of CAs whose certificates can be renewed here."
    )
    ndes: NdesConfig = Field(default=NdesConfig(), description="See below.")


class Config(Section):
    """The whole file."""

    server: ServerConfig = Field(default=ServerConfig(), description="Where it listens.")
    ca: dict[Name, CaConfig] = Field(min_length=1, description="CAs by name.")
    profile: dict[Name, ProfileConfig] = Field(
        default={"device": ProfileConfig()}, min_length=1, description="Profiles by name."
    )
    challenge: dict[Name, ChallengeConfig] = Field(default={}, description="Challenges by name.")
    endpoint: dict[Name, EndpointConfig] = Field(min_length=1, description="Endpoints by name.")
