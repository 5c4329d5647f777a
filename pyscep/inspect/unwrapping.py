"""From whatever somebody has at hand to the bytes of a message.

A file in DER or PEM, base64, a URL, a line of an access log, an HTTP request or response as
captured: each layer that is taken off is described.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final

from pyscep import codec
from pyscep.errors import DecodeError
from pyscep.http import MEDIA_PKI_MESSAGE, HttpError, HttpLimits, HttpRequest, parse_request
from pyscep.inspect.report import Draft, Layer

MAX_BYTES: Final = 64 * 1024 * 1024
_NO_LIMITS: Final = HttpLimits(query_bytes=MAX_BYTES, body_bytes=MAX_BYTES)
_USUAL_QUERY_BYTES: Final = 8 * 1024
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{3,7}) (\S+) HTTP/1\.[01]\r?\n")
_BREAKS: Final = re.compile(rb"[\s\"'<>]+")
_PARAMETER: Final = re.compile(rb"(?:^|[?&])(?:operation|message)=", re.IGNORECASE)
_METHOD: Final = re.compile(rb"[A-Z]{3,7}")
_UNPRINTABLE: Final = re.compile(rb"[^\t\r\n\x20-\x7e]")
_KEYWORD: Final = re.compile(rb"[\x21-\x7e]{1,64}")
_KNOWN_KEYWORDS: Final = frozenset(
    b"aes des3 getnextcacert postpkioperation renewal sha-1 sha-256 sha-384 sha-512"
    b" scepstandard update".split()
)
_SENDING_A_KEY: Final = "this is a private key: give the message, and the key with --key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """What was found inside the wrapping."""

    kind: str
    """Of the outermost wrapping, where there is nothing inside."""
    layers: tuple[Layer, ...] = ()
    bodies: tuple[bytes, ...] = ()
    """Encoded values, or one capability list; empty if HTTP carried neither."""


def unwrap(data: bytes) -> Unwrapped:
    """Take off HTTP, URL, log line, PEM and base64.

    Raises:
        DecodeError: it is nothing that SCEP knows.
    """
    text = data.strip()
    if not text:
        raise DecodeError("nothing to inspect: the input is empty")
    if text.startswith(b"HTTP/"):
        return _response(data.lstrip())
    if _REQUEST_LINE.match(data):
        return _request(data)
    if b"-----BEGIN " in text:
        return _pem(text)
    if _is_binary(data):
        return Unwrapped(kind="DER", bodies=(data,))
    if is_capability_list(data):
        return Unwrapped(kind="GetCACaps answer", bodies=(data,))
    return _url(text) or _base64(text)


def _is_binary(data: bytes) -> bool:
    """An encoded value, not text that happens to begin with the character 0."""
    return data[:1] == b"0" and _UNPRINTABLE.search(data[:64]) is not None


def is_capability_list(data: bytes) -> bool:
    """Lines of keywords, one of which is a keyword of SCEP."""
    lines = [line.strip() for line in data[:65536].split(b"\n") if line.strip()]
    return all(_KEYWORD.fullmatch(line) for line in lines) and any(
        line.lower() in _KNOWN_KEYWORDS for line in lines
    )


# --- text forms -----------------------------------------------------------------------


def _pem(text: bytes) -> Unwrapped:
    draft = Draft("PEM")
    labels, bodies = [], []
    for block in text.split(b"-----BEGIN ")[1:]:
        label, _, rest = block.partition(b"-----")
        if b"PRIVATE KEY" in label:
            raise DecodeError(_SENDING_A_KEY)
        body, end, _ = rest.partition(b"-----END " + label + b"-----")
        if not end:
            raise DecodeError(f"PEM without an end line for {ascii(_text(label[:40]))}")
        labels.append(_text(label))
        try:
            bodies.append(binascii.a2b_base64(body))
        except binascii.Error as error:
            raise DecodeError(f"PEM: {error}") from error
    draft.fields["pem_labels"] = labels
    return Unwrapped(kind="PEM", layers=(draft.finish(),), bodies=tuple(bodies))


def _base64(text: bytes) -> Unwrapped:
    nothing = "neither DER, PEM, base64, a URL, a log line nor an HTTP message"
    try:
        body = codec.decode_message(text)
    except DecodeError as error:
        raise DecodeError(f"{nothing}; as base64: {error.reason}", offset=error.offset) from error
    if not body.startswith(b"0"):
        raise DecodeError(f"{nothing}; as base64 it holds no ASN.1 sequence")
    return Unwrapped(kind="base64", layers=(Draft("base64").finish(),), bodies=(body,))


def _url(text: bytes) -> Unwrapped | None:
    """A URL, or the first line of a log that has a query of SCEP; None if there is none."""
    # JSON logs escape what HTML would mistake.
    text = text.replace(b"\\u0026", b"&").replace(b"\\u003d", b"=").replace(b"\\/", b"/")
    words = _BREAKS.split(text)
    for number, word in enumerate(words):
        if not _PARAMETER.search(word):
            continue
        before = words[max(number - 2, 0) : number]
        if b"?" not in word and before and before[-1].startswith(b"/"):
            word = before.pop() + b"?" + word  # IIS keeps path and query apart
        elif b"?" not in word:
            word = b"?" + word
        method = before[-1] if before else b""
        if _METHOD.fullmatch(method):
            return _call(method, word, (), b"", Draft("HTTP request in a log"))
        return _call(b"GET", word, (), b"", Draft("URL"))
    return None


# --- HTTP -----------------------------------------------------------------------------


def _request(data: bytes) -> Unwrapped:
    match = _REQUEST_LINE.match(data)
    head, body = _split(data)
    headers = _headers(head)
    draft = Draft("HTTP request")
    draft.fields["request_content_type"] = dict(headers).get("content-type")
    body = _plain_body(headers, body, draft)
    method, target = (match[1], match[2]) if match else (b"", b"")
    return _call(method, target, headers, body, draft)


def _call(
    method: bytes,
    target: bytes,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    draft: Draft,
) -> Unwrapped:
    path, _, query = target.partition(b"?")
    request = HttpRequest(
        method=method.decode("ascii"),
        path=_text(path),
        query=query,
        headers=headers,
        body=body,
    )
    draft.fields.update(method=request.method, path=request.path)
    if len(query) > _USUAL_QUERY_BYTES:
        draft.remark("long-query", f"a query of {len(query)} bytes: many servers stop at 8 KiB")
    if query.startswith(b"?"):
        draft.remark("doubled-question-mark", "the query begins with a second question mark")
    try:
        call = parse_request(request, _NO_LIMITS)
    except HttpError as error:
        if method == b"POST" and not body and draft.title != "HTTP request":
            reason = "a log does not have the body of a POST"
        else:
            reason = error.reason
        draft.fields.update(operation=_parameter(query, b"operation"), problem=reason)
        return Unwrapped(kind=draft.title, layers=(draft.finish(),))
    draft.fields["operation"] = call.operation.value
    if not call.message:
        draft.fields.update(
            ca_identifier=call.ca_identifier, message_bytes=len(call.ca_identifier.encode())
        )
        return Unwrapped(kind=draft.title, layers=(draft.finish(),))
    draft.fields["message_bytes"] = len(call.message)
    if method == b"GET" or not body:
        _url_notes(query, draft)
    elif draft.fields["request_content_type"] != MEDIA_PKI_MESSAGE:
        sent = draft.fields["request_content_type"] or "none"
        draft.remark("content-type", f"Content-Type of the POST: {sent}")
    return Unwrapped(kind=draft.title, layers=(draft.finish(),), bodies=(call.message,))


def _url_notes(query: bytes, draft: Draft) -> None:
    """How the base64 of a GET was escaped (RFC 8894 section 4.1)."""
    raw = _raw_parameter(query, b"message")
    plain = codec.percent_decode(raw)
    notes = []
    if b"%" in plain:
        notes.append("escaped twice")
        plain = codec.percent_decode(plain)
    if b"-" in plain or b"_" in plain:
        notes.append("base64url alphabet")
    if b"\n" in plain or b"\r" in plain:
        notes.append("line breaks")
    if b" " in plain:
        notes.append("space instead of +")
    if len(re.sub(rb"\s", b"", plain.replace(b" ", b"+"))) % 4:
        notes.append("missing padding")
    notes += [f"bare {chr(mark)}" for mark in b"+/=" if mark in raw]
    if notes:
        draft.fields["url_notes"] = notes
        draft.remark("url", f"the base64 in the URL: {', '.join(notes)}")
    if re.search(rb"message=.*operation=", query, re.IGNORECASE):
        draft.remark("message-first", "message= comes before operation=")


def _raw_parameter(query: bytes, name: bytes) -> bytes:
    for pair in query.lstrip(b"?").split(b"&"):
        key, _, value = pair.partition(b"=")
        if key.lower() == name:
            return value
    return b""


def _parameter(query: bytes, name: bytes) -> str:
    return _text(_raw_parameter(query, name)[:64])


def _response(data: bytes) -> Unwrapped:
    head, body = _split(data)
    headers = _headers(head)
    draft = Draft("HTTP response")
    status_line = _text(head.partition(b"\n")[0].rstrip(b"\r"))
    content_type = dict(headers).get("content-type")
    draft.fields.update(http_status=status_line, content_type=content_type)
    body = _plain_body(headers, body, draft)
    draft.fields["reply_message_bytes"] = len(body)
    if content_type is None:
        draft.remark("content-type", "no Content-Type")
    elif ";" in content_type:
        draft.remark("content-type", f"a parameter on the Content-Type: {content_type}")
    status = status_line.split(" ")
    if status[1:2] != ["200"]:
        draft.remark("http-status", f"not an answer of SCEP: {status_line}")
    if is_capability_list(body) or (body and _is_binary(body)):
        return Unwrapped(kind="HTTP response", layers=(draft.finish(),), bodies=(body,))
    if b"-----BEGIN " in body:
        inner = _pem(body.strip())
        draft.remark("pem", "PEM where DER is expected")
        return Unwrapped(
            kind="HTTP response", layers=(draft.finish(), *inner.layers), bodies=inner.bodies
        )
    draft.fields["body_text"] = _text(body[:2048])
    return Unwrapped(kind="HTTP response", layers=(draft.finish(),))


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Head and body; a capture may have lost its carriage returns."""
    end = re.search(rb"\r?\n\r?\n", data)
    return (data[: end.start()], data[end.end() :]) if end else (data, b"")


def _headers(head: bytes) -> tuple[tuple[str, str], ...]:
    pairs = []
    for line in head.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            pairs.append((_text(name.strip()).lower(), _text(value.strip())))
    # The first of a name counts, as in HttpRequest.header.
    return tuple(dict(reversed(pairs)).items())


def _plain_body(headers: tuple[tuple[str, str], ...], body: bytes, draft: Draft) -> bytes:
    """The body without chunks."""
    fields = dict(headers)
    if fields.get("transfer-encoding", "").lower() == "chunked":
        draft.fields["transfer_encoding"] = "chunked"
        return _dechunk(body, draft)
    length = fields.get("content-length", str(len(body)))
    if length != str(len(body)):
        draft.remark(
            "content-length", f"Content-Length says {length[:20]}, there are {len(body)} bytes"
        )
    return body


def _dechunk(body: bytes, draft: Draft) -> bytes:
    """The octets of a chunked body (RFC 9112 section 7.1)."""
    out, position = [], 0
    while True:
        line, mark, _ = body[position : position + 64].partition(b"\r\n")
        digits = line.partition(b";")[0].strip()
        if not mark or not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", digits):
            draft.remark("chunks", "the chunked body is cut short")
            break
        size = int(digits, 16)
        if not size:
            break
        position += len(line) + 2
        out.append(body[position : position + size])
        position += size + 2
    return b"".join(out)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
