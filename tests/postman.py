"""A SCEP server of forge.py that takes PKIOperation by GET too, and keeps what came."""

from __future__ import annotations

import base64
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from pyscep.http import HttpRequest, HttpResponse
from tests.endpoint import FakeServer


def decoded(request: HttpRequest) -> bytes:
    """The message of a GET, by the standard library and nothing lenient."""
    name, _, value = request.query.partition(b"&message=")
    assert name == b"operation=PKIOperation"
    return base64.b64decode(unquote_to_bytes(value), validate=True)


class Postman(FakeServer):
    """Takes GET and POST, and keeps what came."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" or b"PKIOperation" not in request.query:
            return super().__call__(request)
        response = super().__call__(replace(request, body=decoded(request)))
        self.requests[-1] = request
        return response

    @property
    def pki_requests(self) -> list[HttpRequest]:
        return [one for one in self.requests if b"PKIOperation" in one.query]
