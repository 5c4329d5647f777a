"""Subjects by rule: a fixed name with places that values of the request go into."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from cryptography import x509

from pyscep.ca import names
from pyscep.ca.names import Names
from pyscep.ca.refusal import Refusal
from pyscep.identity import X509_FAULTS

_PLACE: Final = re.compile(r"\{([A-Za-z]+)\}")
_KNOWN: Final = (*names.SUBJECT_TYPES, *names.SAN_TYPES)
_TYPES: Final = {name: x509.ObjectIdentifier(oid) for name, oid in names.SUBJECT_TYPES.items()}
_KINDS: Final = {oid: kind for kind, oid in names.SUBJECT_TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRule:
    """A subject such as ``CN={dns},O=Example``.

    A value is put into its attribute after the rule was taken apart, so nothing in it can add
    an attribute.
    """

    subject: x509.Name
    """With the places still in it."""

    @classmethod
    def parse(cls, text: str) -> SubjectRule:
        """Read a rule.

        Args:
            text: RFC 4514, with ``{commonName}``, ``{dns}`` and so on for values of the request.

        Raises:
            ValueError: not a name, or a place of an unknown kind.
        """
        try:
            subject = x509.Name.from_rfc4514_string(text, _TYPES)
        except X509_FAULTS as error:
            raise ValueError(
                f"subject rule {ascii(text)} is none like CN={{commonName}},O=Example"
            ) from error
        for kind in _PLACE.findall(text):
            if kind not in _KNOWN:
                raise ValueError(f"subject rule: {{{kind}}} is none of {', '.join(_KNOWN)}")
        if not subject.rdns:
            raise ValueError("subject rule: empty")
        return cls(subject=subject)

    def apply(self, taken: Names) -> Names:
        """The names with the subject that the rule makes of them.

        Raises:
            Refusal: a value that the rule needs is missing, or there are several.
        """
        values = _values(x509.Name.from_bytes(taken.subject), taken.san_texts)
        try:
            subject = x509.Name(
                x509.RelativeDistinguishedName(_filled(attribute, values) for attribute in rdn)
                for rdn in self.subject.rdns
            )
            encoded = subject.public_bytes()
        except X509_FAULTS as error:
            raise Refusal(f"subject by rule: {error}") from error
        return replace(taken, subject=encoded, subject_text=subject.rfc4514_string())


@lru_cache(maxsize=64)
def parse_rule(text: str) -> SubjectRule:
    """``SubjectRule.parse``, once for each text."""
    return SubjectRule.parse(text)


def _values(subject: x509.Name, san_texts: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for attribute in subject:
        oid = attribute.oid.dotted_string
        found.setdefault(_KINDS.get(oid, oid), []).append(str(attribute.value))
    for text in san_texts:
        kind, _, value = text.partition(":")
        found.setdefault(kind, []).append(value)
    return found


def _filled(
    attribute: x509.NameAttribute[str | bytes], values: dict[str, list[str]]
) -> x509.NameAttribute[str]:
    def value_of(place: re.Match[str]) -> str:
        kind = place[1]
        have = values.get(kind, [])
        if len(have) != 1:
            # Of two, nobody could say which one the device is known by.
            raise Refusal(f"the profile's subject needs one {kind}; the request has {len(have)}")
        return have[0]

    return x509.NameAttribute(attribute.oid, _PLACE.sub(value_of, str(attribute.value)))
