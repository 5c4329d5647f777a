"""Many endpoints as one ASGI application: each path with its CA, profiles and habits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Protocol

from cryptography import x509

from pyscep.adapters.asgi import Receive, ScepApp, Scope, Send
from pyscep.ca import CertificateAuthority
from pyscep.ca.administration import PublishedCa
from pyscep.capabilities import Capabilities
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.events import ServerEvent
from pyscep.identity import Identity
from pyscep.messages import CertPoll, Outcome, PKCSReq, RenewalReq, Success
from pyscep.server import Authority, PkiRequest, Server
from pyscep.site.building import Builder
from pyscep.site.config import Config, ConfigError, EndpointConfig, IntuneConfig, Policy, Problem
from pyscep.site.publication import Publication
from pyscep.site.reply import lifespan, not_found, path_of, send_response

OnEvent = Callable[[ServerEvent], None] | None


def policy_of(config: Config, endpoint: EndpointConfig) -> Policy:
    """The algorithms of an endpoint: devices of Intune's were seen with triple DES."""
    if endpoint.policy is not None:
        return endpoint.policy
    for_intune = any(isinstance(config.challenge[one], IntuneConfig) for one in endpoint.challenges)
    return "compatible" if endpoint.kind == "ndes" or for_intune else "modern"


class EndpointApp(Protocol):
    """What answers below one path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""

    def close(self) -> None:
        """End its threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path with all that is below it."""

    path: str
    ignore_case: bool
    app: EndpointApp

    def answers(self, path: str) -> bool:
        """Whether a request's path belongs here."""
        prefix = self.path.rstrip("/")
        if self.ignore_case:
            prefix, path = prefix.lower(), path.lower()
        return path == prefix or path.startswith(f"{prefix}/")


class Endpoints:
    """An ASGI application with many endpoints; every other path is 404.

    Args:
        routes: the endpoints; of two that fit, the longer path counts.
        publication: answers for CRLs and CA certificates, before the endpoints.
    """

    def __init__(self, routes: Sequence[Route], publication: Publication | None = None) -> None:
        self._routes = sorted(routes, key=lambda route: len(route.path), reverse=True)
        self._publication = publication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface: http and lifespan."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.close)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"Endpoints knows no ASGI scope of type {scope['type']!r}")
        path = path_of(scope)
        if self._publication is not None and self._publication.answers(path):
            await self._publication(scope, receive, send)
            return
        for route in self._routes:
            if route.answers(path):
                await route.app(scope, receive, send)
                return
        await send_response(scope, send, not_found())

    def close(self) -> None:
        """End the threads of every endpoint."""
        for route in self._routes:
            route.app.close()


class WithCertificates:
    """An authority whose issued certificates come with others.

    Args:
        authority: decides.
        more: the certificates that go along.
    """

    def __init__(self, authority: Authority, more: Sequence[x509.Certificate]) -> None:
        self._authority = authority
        self._more = tuple(more)

    def __call__(self, request: PkiRequest) -> Outcome:
        """The authority's outcome, with the certificates added."""
        outcome = self._authority(request)
        issues = isinstance(request.message, PKCSReq | RenewalReq | CertPoll)
        if issues and isinstance(outcome, Success) and outcome.certificates:
            return replace(outcome, certificates=(*outcome.certificates, *self._more))
        return outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEndpoint:
    """An endpoint of a configuration, ready to be served."""

    name: str
    config: EndpointConfig
    policy: Policy
    ca: CertificateAuthority
    app: EndpointApp

    @property
    def path(self) -> str:
        """What clients append to the server's address."""
        if self.config.kind == "ndes":
            return f"{self.config.path.rstrip('/')}/mscep/mscep.dll"
        return self.config.path


class OpenSite:
    """Everything that a configuration describes, opened.

    Args:
        config: the model.
        builder: opens what it names, and closes it with this site.
        on_event: told about each request.

    Raises:
        ConfigError: something can't be opened.
    """

    def __init__(self, config: Config, builder: Builder, *, on_event: OnEvent = None) -> None:
        self.config = config
        self._builder = builder
        try:
            self.endpoints = tuple(
                KINDS[endpoint.kind](name, endpoint, builder, on_event)
                for name, endpoint in config.endpoint.items()
            )
            published = _published(config, builder)
        except Exception:
            builder.close()
            raise
        routes = [
            Route(
                path=one.config.path,
                ignore_case=one.config.ignore_case or one.config.kind == "ndes",
                app=one.app,
            )
            for one in self.endpoints
        ]
        self.app = Endpoints(routes, Publication(published) if config.server.publish else None)

    def close(self) -> None:
        """End the threads, close stores and connections."""
        self.app.close()
        self._builder.close()

    def __enter__(self) -> OpenSite:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _published(config: Config, builder: Builder) -> dict[str, PublishedCa]:
    """Every CA with those after and before it, by the name in the addresses."""
    found: dict[str, PublishedCa] = {}
    for name in config.ca:
        for public, one in builder.authority(name).published():
            if public in found:
                text = (
                    f"another CA is called {public} in the addresses, too: give each its own name"
                )
                raise ConfigError(builder.name, [Problem(key=f"ca.{name}", text=text)])
            found[public] = one
    return found


def ca_server(
    ca: CertificateAuthority, config: EndpointConfig, policy: Policy, *, on_event: OnEvent = None
) -> Server:
    """The server role of an endpoint.

    Args:
        ca: decides there.
        config: the endpoint.
        policy: of ``policy_of``.
        on_event: told about each request.

    Raises:
        ValueError: GetCACert would give the issuing CA alone although an RA decrypts.
    """
    above = ca.issuer.identity.chain if config.ca_certificates == "chain" else ()
    issuer = ca.issuer.identity
    window = config.signing_time_window_minutes
    common: dict[str, Any] = {
        "policy": AlgorithmPolicy.named(policy),
        "signing_time_window": None if window is None else timedelta(minutes=window),
        "renewal": config.renewal,
        "empty_content": config.empty_content,
        "capabilities": (
            None if config.capabilities is None else Capabilities(keywords=config.capabilities)
        ),
        "rollover": ca.succession.rollover,
        "next_ca_certificates": ca.succession.next_ca_certificates,
        "on_event": on_event,
    }
    if ca.recipient is None:
        return Server(Identity(issuer.certificate, issuer.private_key, above), **common)
    if config.ca_certificates == "issuer":
        raise ValueError(
            'ca_certificates = "issuer": clients would encrypt to the CA, and an RA decrypts '
            'here; take "ra+issuer" or "chain"'
        )
    return Server(
        _alone(ca.recipient),
        encryption=None if ca.encryption is None else _alone(ca.encryption),
        ca_certificates=(issuer.certificate, *above),
        ca_identity=issuer,
        **common,
    )


def _alone(identity: Identity) -> Identity:
    """Without its chain, which is the configuration's to give out."""
    return Identity(identity.certificate, identity.private_key)


def scep_endpoint(
    name: str, config: EndpointConfig, builder: Builder, on_event: OnEvent
) -> OpenEndpoint:
    """``kind = "scep"``."""
    ca = builder.certificate_authority(name)
    policy = policy_of(builder.config, config)
    server = builder.guard(
        f"endpoint.{name}", lambda: ca_server(ca, config, policy, on_event=on_event)
    )
    bound = builder.config.server.limits.max_pending
    app = ScepApp(server, with_certificates(ca, config), max_pending=bound)
    return OpenEndpoint(name=name, config=config, policy=policy, ca=ca, app=app)


def with_certificates(ca: CertificateAuthority, config: EndpointConfig) -> Authority:
    """What decides at an endpoint, with the certificates that it sends along."""
    more = {
        "issued": (),
        "issued+issuer": ca.ca_certificates[:1],
        "chain": ca.ca_certificates,
    }[config.reply_certificates]
    return WithCertificates(ca, more) if more else ca


def ndes_endpoint(
    name: str, config: EndpointConfig, builder: Builder, on_event: OnEvent
) -> OpenEndpoint:
    """``kind = "ndes"``: the look-alike of Microsoft's NDES."""
    from pyscep.site import ndes
    from pyscep.site.ndes_registry import NdesSettings, from_registry
    from pyscep.site.passwords import PasswordFile

    policy = policy_of(builder.config, config)

    def build() -> OpenEndpoint:
        base = NdesSettings(
            policy=policy,
            plain_get=config.ndes.plain_get,
            encoding=config.ndes.encoding,
            root=config.path.rstrip("/"),
            cache_request=builder.redelivery(config),
        )
        settings = from_registry(config.ndes.registry, base).settings
        profiles = ndes.ndes_profiles([builder.profile(one) for one in config.profiles], settings)
        store = builder.authority(config.ca).store
        names = [profile.name for profile in profiles]
        provider = builder.challenges(config) if config.challenges else None
        challenge = ndes.ndes_challenges(store, settings, names, provider=provider)
        ca = builder.certificate_authority(
            name, challenge=challenge, profiles=profiles, redelivery=settings.cache_request
        )
        accounts = config.ndes.accounts
        authenticate = None if accounts is None else PasswordFile.read(builder.files.path(accounts))
        app = ndes.ndes_app(
            ca,
            settings,
            authenticate=authenticate,
            server=ca_server(ca, config, policy, on_event=on_event),
            authority=with_certificates(ca, config),
            max_pending=builder.config.server.limits.max_pending,
        )
        return OpenEndpoint(name=name, config=config, policy=policy, ca=ca, app=app)

    return builder.guard(f"endpoint.{name}", build)


Kind = Callable[[str, EndpointConfig, Builder, OnEvent], OpenEndpoint]

KINDS: Final[Mapping[str, Kind]] = {"scep": scep_endpoint, "ndes": ndes_endpoint}
"""How each kind of endpoint is made."""
