"""The harness itself: a missing peer is never silent, and the matrix has no blank cell."""

from __future__ import annotations

import pytest

from . import peers
from .rows import TABLES


def test_a_missing_peer_is_skipped_by_the_name_of_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYSCEP_REQUIRE_PEERS", raising=False)
    monkeypatch.setattr(peers, "PATH", "/nonexistent")
    with pytest.raises(pytest.skip.Exception, match=r"pki not found.*strongswan-pki"):
        peers.require("pki")


def test_a_missing_peer_fails_where_peers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSCEP_REQUIRE_PEERS", "1")
    monkeypatch.setattr(peers, "PATH", "/nonexistent")
    with pytest.raises(pytest.fail.Exception, match="certmonger not found"):
        peers.require("certmonger")


def test_every_program_has_a_package() -> None:
    for name in ("scepserver", "scepclient", "pki", "certmonger", "getcert", "openssl"):
        assert peers.PACKAGES[name]


def test_what_is_left_out_of_the_matrix_has_a_reason() -> None:
    for _, columns, rows in TABLES:
        for row in rows:
            assert set(row.absent) <= set(columns)
            assert all(len(reason) > 20 for reason in row.absent.values())
        assert len({row.id for row in rows}) == len(rows)
