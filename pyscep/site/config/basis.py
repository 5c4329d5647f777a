"""What the tables of ``scep.toml`` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Of a CA, profile, challenge or endpoint; it stands in addresses and in the store."""


class Section(BaseModel):
    """A table: nothing but its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(Section):
    """Where a secret is; never the secret itself."""

    file: Path | None = Field(default=None, description="A file that only its owner can read.")
    env: str | None = Field(default=None, description="Name of an environment variable.")

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.file is None) == (self.env is None):
            raise ValueError('give either a file or an env, such as { file = "secret.txt" }')
        return self


class KeyPair(Section):
    """A certificate and its key."""

    certificate: Path = Field(description="PEM file; the chain may follow in it.")
    key: Path = Field(description="PEM file of the private key.")
    passphrase: Secret | None = Field(
        default=None, description="Of the key file, if it is encrypted."
    )
