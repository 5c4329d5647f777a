"""Errors keep what they say, whichever way they are made or carried."""

from __future__ import annotations

import copy
import pickle

import pytest

from pyscep.errors import AlgorithmError, DecodeError, ProtocolError
from pyscep.http import HttpError


def told(error: ProtocolError) -> tuple[object, ...]:
    return type(error), error.reason, error.offset, str(error), repr(error), vars(error)


@pytest.mark.parametrize(
    "error",
    [
        DecodeError("too deep", offset=7),
        DecodeError.at(0, "too deep"),
        AlgorithmError("no such digest"),
        HttpError(414, "too long"),
    ],
    ids=["made", "at", "without offset", "with a status"],
)
def test_an_error_goes_to_another_process(error: ProtocolError) -> None:
    error.add_note("seen")
    assert told(pickle.loads(pickle.dumps(error))) == told(error)
    assert told(copy.copy(error)) == told(error)


def test_the_short_way_makes_the_same_error() -> None:
    assert told(DecodeError.at(5, "cut")) == told(DecodeError("cut", offset=5))
    assert DecodeError.at(5, "cut").args == DecodeError("cut", offset=5).args == ("cut",)
