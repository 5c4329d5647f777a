"""What an inspection found: layers of named values, and remarks on what is unusual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MASK: Final = "(hidden)"
_HIDDEN: Final = "challenge_password"
_UNVERIFIED: Final = {"value": False, "reason": "not checked: nothing here is signed by itself"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is unusual about a layer, though not always wrong."""

    code: str
    """A fixed word, such as ``weak-digest``."""
    text: str
    """For a person; it may quote the message, so escape it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a message: HTTP, signature, envelope, CSR, ..."""

    title: str
    fields: Mapping[str, Any] = field(repr=False)
    """Values as JSON knows them; nothing in them is verified unless a field says so."""
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was found in some bytes."""

    kind: str
    """What they are: ``pkiMessage``, ``certificate request``, ``HTTP response``, ..."""
    layers: tuple[Layer, ...] = field(repr=False)
    """From the outside to the inside."""
    keys_given: bool = False
    """Whoever gave a key may also see the secrets that it opens."""

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """All that is unusual, from the outside to the inside."""
        return tuple(remark for layer in self.layers for remark in layer.remarks)

    @property
    def verified(self) -> Mapping[str, Any]:
        """Whether a signature was checked and found good (``value``), and why (``reason``)."""
        for name in ("verified", "csr_verified"):
            for layer in self.layers:
                if name in layer.fields:
                    found: Mapping[str, Any] = layer.fields[name]
                    return found
        return _UNVERIFIED

    def to_dict(self, *, show_secrets: bool | None = None) -> dict[str, Any]:
        """One object for JSON: all fields side by side, and again by layer.

        Where two layers have a field of one name, the outer one's stands at the top.

        Args:
            show_secrets: whether the challengePassword is in it; None means if keys were
                given.
        """
        show = self.keys_given if show_secrets is None else show_secrets
        document: dict[str, Any] = {"kind": self.kind, "verified": dict(self.verified)}
        layers = []
        for layer in self.layers:
            fields = visible_fields(layer, show_secrets=show)
            layers.append({"title": layer.title, **fields})
            for name, value in fields.items():
                document.setdefault(name, value)
        document["layers"] = layers
        document["unusual"] = [
            {"layer": layer.title, "code": remark.code, "text": remark.text}
            for layer in self.layers
            for remark in layer.remarks
        ]
        return document


def visible_fields(layer: Layer, *, show_secrets: bool) -> dict[str, Any]:
    """The fields of a layer, with the challengePassword hidden unless it is asked for."""
    fields = dict(layer.fields)
    if not show_secrets and fields.get(_HIDDEN):
        fields[_HIDDEN] = {**fields[_HIDDEN], "value": MASK}
    return fields


class Draft:
    """A layer that is being written."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.fields: dict[str, Any] = {}
        self._remarks: list[Remark] = []

    def remark(self, code: str, text: str) -> None:
        """Note something unusual, once."""
        remark = Remark(code=code, text=text)
        if remark not in self._remarks:
            self._remarks.append(remark)

    def finish(self) -> Layer:
        """The layer as it is now."""
        return Layer(title=self.title, fields=self.fields, remarks=tuple(self._remarks))
