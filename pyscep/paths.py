"""Which certificates may stand below which: RFC 5280 section 6.1, as far as SCEP needs it.

Signatures, names, CA:TRUE and keyCertSign, pathLenConstraint and nameConstraints. Validity is
the caller's; certificate policies mean nothing to SCEP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.errors import ProtocolError
from pyscep.identity import X509_FAULTS, RawCertificate
from pyscep.issuance import is_ca, may_issue, verify_issued_by


class PathError(ProtocolError):
    """A chain that its own CAs forbid."""


class Paths:
    """Certificates that are trusted, with what each may issue.

    Args:
        anchors: trusted as they are; what they say about those below them counts.
    """

    def __init__(self, anchors: Iterable[RawCertificate]) -> None:
        self._places = {one: _NO_LIMITS.below(one) for one in anchors}

    @classmethod
    def through(cls, trusted: Iterable[RawCertificate], policy: AlgorithmPolicy) -> Paths:
        """Of certificates that are trusted together: those at the top limit those below.

        What can't be shown to stand below another one is an anchor itself.
        """
        every = list(trusted)
        subjects = {one.subject for one in every}
        tops = [one for one in every if one.is_self_issued or one.issuer not in subjects]
        self = cls(tops)
        waiting = [one for one in every if one not in tops]
        while found := [one for one in waiting if self._admits(one, policy)]:
            waiting = [one for one in waiting if one not in found]
        for one in waiting:
            self._places[one] = _NO_LIMITS.below(one)
        return self

    def __contains__(self, one: object) -> bool:
        return one in self._places

    def __iter__(self) -> Iterator[RawCertificate]:
        return iter(self._places)

    def admit(self, one: RawCertificate, policy: AlgorithmPolicy) -> bool:
        """Trust a certificate that one of the trusted CAs issued, and was allowed to.

        Returns:
            False if none has its issuer's name.

        Raises:
            SignatureError: none of them signed it.
            AlgorithmError: an algorithm or key that the policy refuses.
            PathError: a pathLenConstraint or nameConstraints above it forbid it.
        """
        fault: ProtocolError | None = None
        for issuer, place in self._places.items():
            if may_issue(issuer, one):
                try:
                    verify_issued_by(one, issuer, policy)
                    below = place.below(one)
                except ProtocolError as error:
                    fault = error
                    continue
                self._places[one] = below
                return True
        if fault is not None:
            raise fault
        return False

    def _admits(self, one: RawCertificate, policy: AlgorithmPolicy) -> bool:
        try:
            return self.admit(one, policy)
        except ProtocolError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What may stand below one certificate."""

    room: int | None
    """How many CAs; None: any number."""
    constraints: tuple[x509.NameConstraints, ...] = ()

    def below(self, one: RawCertificate) -> _Place:
        """The place of a certificate that stands directly below.

        Raises:
            PathError: it may not.
        """
        certificate = one.certificate
        room = self.room
        if is_ca(certificate):
            if room is not None:
                if room == 0:
                    raise PathError("a CA below one whose pathLenConstraint allows none")
                room -= 1
            own = _extension(certificate, x509.BasicConstraints)
            if own is not None and own.path_length is not None:
                room = own.path_length if room is None else min(room, own.path_length)
        for constraint in self.constraints:
            _check_names(certificate, constraint)
        stated = _extension(certificate, x509.NameConstraints)
        more = () if stated is None else (stated,)
        return _Place(room=room, constraints=(*self.constraints, *more))


_NO_LIMITS: Final = _Place(room=None)


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    """The value of an extension, or None.

    Raises:
        PathError: the certificate's extensions can't be read.
    """
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except X509_FAULTS as error:
        raise PathError(f"extensions of a certificate of the server: {error}") from error


def _check_names(certificate: x509.Certificate, constraints: x509.NameConstraints) -> None:
    """RFC 5280 section 4.2.1.10: a kind of names that is not mentioned is free."""
    for name in _names_of(certificate):
        kind = type(name)
        permitted = [one for one in constraints.permitted_subtrees or () if type(one) is kind]
        excluded = [one for one in constraints.excluded_subtrees or () if type(one) is kind]
        if not permitted and not excluded:
            continue
        lies_in = _WITHIN.get(kind)
        if lies_in is None:
            raise PathError(f"nameConstraints for {kind.__name__} can't be checked")
        if any(lies_in(name.value, base.value) for base in excluded) or (
            permitted and not any(lies_in(name.value, base.value) for base in permitted)
        ):
            raise PathError("a name that the nameConstraints of a CA forbid")


def _names_of(certificate: x509.Certificate) -> Iterator[x509.GeneralName]:
    try:
        subject = certificate.subject
    except X509_FAULTS as error:
        raise PathError(f"subject of a certificate of the server: {error}") from error
    if len(subject.rdns):
        yield x509.DirectoryName(subject)
    alternatives = _extension(certificate, x509.SubjectAlternativeName)
    if alternatives is not None:
        yield from alternatives
        return
    for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        yield x509.RFC822Name(str(attribute.value))


def _in_directory(name: x509.Name, base: x509.Name) -> bool:
    return len(base.rdns) <= len(name.rdns) and all(
        _folded(one) == _folded(other) for one, other in zip(base.rdns, name.rdns, strict=False)
    )


def _folded(rdn: x509.RelativeDistinguishedName) -> set[tuple[str, Any]]:
    """Case and white space don't count (RFC 5280 section 7.1)."""
    return {
        (
            one.oid.dotted_string,
            " ".join(one.value.casefold().split()) if isinstance(one.value, str) else one.value,
        )
        for one in rdn
    }


def _in_domain(name: str, base: str) -> bool:
    name, base = name.casefold(), base.casefold()
    if base.startswith("."):
        return name.endswith(base)
    return not base or name == base or name.endswith(f".{base}")


def _in_mailboxes(name: str, base: str) -> bool:
    local, _, host = name.rpartition("@")
    if "@" in base:
        wanted, _, domain = base.rpartition("@")
        return local == wanted and host.casefold() == domain.casefold()
    return _on_host(host, base)


def _in_uris(name: str, base: str) -> bool:
    try:
        host = urlsplit(name).hostname
    except ValueError:
        host = None
    if not host:
        raise PathError("a URI without a host can't be checked against nameConstraints")
    return _on_host(host, base)


def _on_host(host: str, base: str) -> bool:
    """One host, or, with a dot before, every host below."""
    host, base = host.casefold(), base.casefold()
    return host.endswith(base) if base.startswith(".") else not base or host == base


def _in_network(address: Any, network: Any) -> bool:
    return address.version == network.version and address in network


_WITHIN: Final[Mapping[type[x509.GeneralName], Callable[[Any, Any], bool]]] = {
    x509.DirectoryName: _in_directory,
    x509.DNSName: _in_domain,
    x509.RFC822Name: _in_mailboxes,
    x509.UniformResourceIdentifier: _in_uris,
    x509.IPAddress: _in_network,
}
