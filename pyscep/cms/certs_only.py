"""The degenerate SignedData that only carries certificates and CRLs (RFC 8894 section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pyscep import codec
from pyscep.cms.signed_data import ID_DATA, ID_SIGNED_DATA, MAX_CERTIFICATES, MAX_TRAILING
from pyscep.codec import der
from pyscep.codec.shapes import ShapeBuilder
from pyscep.codec.space import Space
from pyscep.codec.templates import Part, Template
from pyscep.errors import DecodeError

# ContentInfo 0, [0] 1, SignedData 2, certificates and crls 3, and each of them 4: not entered,
# so that a CRL of a million entries costs no more than its length.
_LEAF_DEPTH: Final = 4
_FEW: Final = 8
"""From so many CRLs on, the general reader looks."""
_HEAD: Final = der.integer(1) + der.set_of() + der.sequence(ID_DATA)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertsOnly:
    """Certificates and CRLs in DER, in the order of appearance."""

    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    crls: tuple[bytes, ...] = field(default=(), repr=False)


def _template(*optional: Part) -> Template:
    content = (der.SEQUENCE, _HEAD, *optional, der.set_of())
    return Template((der.SEQUENCE, ID_SIGNED_DATA, (0xA0, content)))


_CERTIFICATES: Final = _template((0xA0, "certificates"))
_CRLS: Final = _template((0xA1, "crls"))
_BOTH: Final = _template((0xA0, "certificates"), (0xA1, "crls"))
_NEITHER: Final = _template()


def build_certs_only(certificates: Sequence[bytes] = (), crls: Sequence[bytes] = ()) -> bytes:
    """A certificates-only ContentInfo in DER; both SETs are sorted, and left out if empty."""
    bag = b"".join(sorted(certificates))
    if not crls:
        return _CERTIFICATES.fill(bag) if bag else _NEITHER.fill()
    lists = b"".join(sorted(crls))
    return _BOTH.fill(bag, lists) if bag else _CRLS.fill(lists)


def around_crl(size: int) -> tuple[bytes, bytes]:
    """What ``build_certs_only`` writes before and behind a single CRL of so many bytes."""
    return _CRLS.around("crls", size)


_ONE_CRL: Final = (
    ShapeBuilder()
    .open(der.SEQUENCE)
    .same(ID_SIGNED_DATA)
    .open(0xA0)
    .open(der.SEQUENCE)
    .take(der.INTEGER, "version")
    .take(der.SET, "digestAlgorithms")
    .pass_over()
    .open(0xA1)
    .take(der.SEQUENCE, "crl")
    .close()
    .take(der.SET, "signerInfos")
    .close()
    .close()
    .close()
    .build()
)


def take_certs_only(space: Space, size: int) -> CertsOnly:
    """``read_certs_only`` of the first octets of a Space, which is used up.

    A single CRL, the usual answer to GetCRL, is cut out; all else is copied first.

    Raises:
        DecodeError: it is not one.
    """
    view = space.view[:size]
    at = _ONE_CRL.find(codec.window(view))
    if at is None:
        return read_certs_only(bytes(view))
    view.release()
    return CertsOnly(crls=(space.cut(at[6], at[8]),))


_USUAL: Final = (
    ShapeBuilder()
    .open(der.SEQUENCE)
    .same(ID_SIGNED_DATA)
    .open(0xA0)
    .open(der.SEQUENCE)
    .take(der.INTEGER, "version")
    .take(der.SET, "digestAlgorithms")
    .pass_over()
    .optional(0xA0, lambda shape: shape.take_few(0xA0, "certificates", MAX_CERTIFICATES))
    .take_optional(0xA1, "crls")
    .take(der.SET, "signerInfos")
    .close()
    .close()
    .close()
    .build()
)


def read_certs_only(data: bytes) -> CertsOnly:
    """Read a certificates-only SignedData, with or without ContentInfo, in BER.

    Signed variants and other versions are read too; no signature is looked at.

    Raises:
        DecodeError: it is not one.
    """
    at = _USUAL.find(data)
    if at is not None:
        certificates = der.split(data, at[7], at[8])
        crls = der.split(data, at[10], at[11], most=_FEW)
        if certificates is not None and crls is not None and len(crls) < _FEW:
            return _certs_only(certificates, crls)
    return _read_any_certs_only(data)


def _certs_only(certificates: Sequence[der.Node], crls: Sequence[der.Node]) -> CertsOnly:
    return CertsOnly(
        certificates=tuple([node.raw for node in certificates if node.tag == der.SEQUENCE]),
        crls=tuple([node.raw for node in crls if node.tag == der.SEQUENCE]),
    )


def _read_any_certs_only(data: bytes) -> CertsOnly:
    """``read_certs_only`` for every form that BER and the RFC allow."""
    root = der.read(data, leaf_depth=_LEAF_DEPTH, max_trailing=MAX_TRAILING)
    fields = root.fields(der.SEQUENCE, 2, "SignedData")
    if fields[0].tag == der.OID:
        if fields[0].raw != ID_SIGNED_DATA:
            raise DecodeError("the content type is not signedData", offset=fields[0].start)
        fields = fields[1].fields(0xA0, 1, "content")[0].fields(der.SEQUENCE, 3, "SignedData")
    elif len(fields) < 3:
        raise DecodeError("SignedData is too short", offset=root.start)
    fields[0].expect(der.INTEGER, "SignedData.version")
    fields[1].expect(der.SET, "digestAlgorithms")
    certificates: list[der.Node] = []
    crls: list[der.Node] = []
    for part in fields[3:]:
        if part.tag == 0xA0:
            certificates = part.children()
        elif part.tag == 0xA1:
            crls = part.children()
    if len(certificates) > MAX_CERTIFICATES:
        raise DecodeError("too many certificates", offset=root.start)
    return _certs_only(certificates, crls)
