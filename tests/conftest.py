"""What many tests share: keys and parties made once, an authority in memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import pyscep
from tests import forge_keys as keys
from tests.endpoint import Authority, Endpoint, identity

# Deadlines measure the machine, not the code.
settings.register_profile(
    "pyscep", deadline=None, max_examples=200, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.load_profile("pyscep")


@pytest.fixture(scope="session")
def device_key() -> Any:
    """The RSA key of a device."""
    return keys.rsa_key("client")


@pytest.fixture(scope="session")
def ca_identity() -> pyscep.Identity:
    """A CA that signs and decrypts for itself."""
    return identity(keys.ca())


@pytest.fixture(scope="session")
def ra_identities() -> tuple[pyscep.Identity, pyscep.Identity]:
    """The RA for signatures and the RA for encryption of that CA."""
    return identity(keys.ra("sign")), identity(keys.ra("encrypt"))


@pytest.fixture
def authority() -> Authority:
    """Decides in memory; see endpoint.py."""
    return Authority()


@pytest.fixture
def endpoint(authority: Authority) -> Endpoint:
    """A server of that authority, for forged messages."""
    return Endpoint(authority=authority)
