"""Parsing request bodies of MONAI Label's clients, and the multipart response that they read.

The Python client keeps one dictionary of headers for all its calls, so the content type may be that
of an earlier body: the type of a body is recognised by its first line, never by its header.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qsl

import orjson
from flask import request
from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata
from werkzeug.datastructures import FileStorage
from werkzeug.formparser import MultiPartParser
from werkzeug.wrappers import Request

from isoline.errors import Malformed, TooLarge
from isoline.server.declarations import Body

MAX_TEXT_BYTES = 8 << 20
"""Size limit of all fields of a form together, or of a JSON body."""
MAX_PARTS = 4096
"""A series has a file per slice."""
TEXT = Body(MAX_TEXT_BYTES, is_json=False)
"""A body of JSON or of a few fields, whatever its content type."""


@dataclass(frozen=True)
class Form:
    """The content of a request's body."""

    fields: Mapping[str, str]
    files: tuple[FileStorage, ...]
    """In the order of the body; `name` is the field, `filename` has no folder."""

    def file(self, field: str) -> FileStorage | None:
        return next((file for file in self.files if file.name == field), None)

    def json(self, field: str) -> dict[str, object]:
        """Return the JSON object in a field, empty if there is none."""
        return json_object(self.fields.get(field, "").encode(), field)


@dataclass(frozen=True)
class FormReader:
    """Reads the form of the current request."""

    max_bytes: int
    scratch: Path
    """The directory for its temporary files."""

    @property
    def body(self) -> Body:
        """The body that a route which reads a form declares."""
        return Body(self.max_bytes, MAX_PARTS, MAX_TEXT_BYTES, is_json=False)

    def __call__(self) -> Form:
        """Return the form. Raises Malformed or TooLarge."""
        return read(request, self.max_bytes, self.scratch)


def read(request: Request, max_bytes: int, scratch: Path) -> Form:
    """Read a multipart or URL-encoded body of at most `max_bytes`.

    Files are stored in an unnamed temporary file below `scratch`.

    Raises Malformed or TooLarge.
    """
    body = _body(request, max_bytes)
    first = body.readline(256)
    if first == b"\r\n":  # some clients start with an empty preamble
        first = body.readline(256)
    if not first.startswith(b"--"):
        pairs = parse_qsl((first + _text(body)).decode("utf-8", "replace"), keep_blank_values=True)
        return Form(dict(pairs), ())
    boundary = first.strip()[2:]
    scratch.mkdir(parents=True, exist_ok=True)

    shared = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  closed with the last part

    def temporary(**_: object) -> IO[bytes]:
        return cast(IO[bytes], _Part(shared))

    parser = MultiPartParser(
        stream_factory=temporary,  # type: ignore[arg-type]
        max_form_memory_size=MAX_TEXT_BYTES,
        max_form_parts=MAX_PARTS,
    )
    try:
        fields, files = parser.parse(
            _Rejoined(first, body),  # type: ignore[arg-type]  # it is only read
            boundary,
            request.content_length,
        )
    except ValueError as error:
        raise Malformed(f"the form cannot be read: {error}", "send multipart/form-data") from None
    # `values` would leave out all but the first file of a field
    sent = tuple(file for _, file in files.items(multi=True))
    for file in sent:
        file.filename = _sent_name(file)
    return Form(fields.to_dict(), sent)


def read_json(request: Request) -> dict[str, object]:
    """Return the JSON object in the body, empty if there is no body."""
    return json_object(_text(_body(request, MAX_TEXT_BYTES)), "the body")


def json_object(text: bytes, where: str) -> dict[str, object]:
    """Return the JSON object in `text`, empty if that is empty or null. Raises Malformed."""
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"{where} is not JSON: {error}", "send a JSON object") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"{where} is not a JSON object", "send a JSON object")
    return value


def multipart(params: bytes, name: str, content: bytes, media_type: str) -> tuple[bytes, str]:
    """Return the response body of an inference and its content type.

    Part `params` is JSON without a file name, part `image` a file called `name`.
    """
    field = RequestField("params", params)
    field.make_multipart(content_type="application/json")
    file = RequestField("image", content, filename=name)
    file.make_multipart(content_type=media_type)
    return encode_multipart_formdata([field, file])


def _sent_name(file: FileStorage) -> str:
    """Return the file name from a client's path, of whatever operating system.

    The raw header is used, since backslashes in Windows paths would be read as escapes.
    """
    sent = re.search(r'filename="([^"]*)"', file.headers.get("Content-Disposition", ""))
    path = sent[1] if sent is not None else file.filename or ""
    return re.split(r"[/\\]", path)[-1]


class _Part(io.RawIOBase):
    """A file of a form: its part of an unnamed temporary file that holds them all.

    A form can have more files than the system lets a process keep open.
    """

    def __init__(self, shared: IO[bytes]) -> None:
        """Begin at the end of `shared`; the part grows until the next one begins."""
        self._shared = shared
        self._start = shared.seek(0, os.SEEK_END)
        self._size = self._at = 0

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._shared.seek(self._start + self._at)
        self._at += self._shared.write(content)
        self._size = max(self._size, self._at)
        return len(content)

    def readinto(self, buffer: Any) -> int:
        self._shared.seek(self._start + self._at)
        content = self._shared.read(min(len(buffer), max(0, self._size - self._at)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


class _Rejoined(io.RawIOBase):
    """A stream whose first line has already been read."""

    def __init__(self, first: bytes, rest: io.BufferedIOBase) -> None:
        self._first, self._rest = first, rest

    def read(self, size: int = -1) -> bytes:
        first, self._first = self._first, b""
        return first or self._rest.read(size)


def _body(request: Request, max_bytes: int) -> io.BufferedIOBase:
    request.max_content_length = max_bytes
    stream = request.stream
    if isinstance(stream, io.BufferedIOBase):
        return stream
    return io.BufferedReader(stream)  # type: ignore[type-var,unused-ignore]


def _text(body: io.BufferedIOBase) -> bytes:
    text = body.read(MAX_TEXT_BYTES + 1)
    if len(text) > MAX_TEXT_BYTES:
        raise TooLarge(f"the body has more than {MAX_TEXT_BYTES} bytes", "send a smaller one")
    return text
