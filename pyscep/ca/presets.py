"""Profiles to begin with, for what most sites enroll."""

from __future__ import annotations

from typing import Final

from pyscep.ca.profile import Profile
from pyscep.ca.strong_mapping import SID_URI_SCHEME

PRESETS: Final = {
    "device": Profile(),
    # Apple's payloads say by their Key Usage whether a key signs, enciphers or both. None of
    # them wants nonRepudiation.
    "apple": Profile(
        name="apple",
        key_usage_source="request",
        san_types=("dns", "email", "uri", "upn"),
    ),
    # The names that Intune's profiles can have, strong mapping among them. Only for endpoints
    # whose challenges are bound to the names: whoever chooses a SID is that user.
    "intune": Profile(
        name="intune",
        key_usage_source="request",
        san_types=("dns", "email", "uri", "upn"),
        uri_schemes=("http", "https", "urn", "spiffe", SID_URI_SCHEME, "intunedeviceid"),
    ),
}
"""By name; take one and change it with ``dataclasses.replace``."""
