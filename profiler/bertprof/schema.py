"""Reading saved JSON: which kind of document it is, of which version, and whether every field is there and typed.

A field that a newer minor version added is tolerated, a newer major version is refused by name, and whatever is missing
or wrong is named by its path.
"""

import base64
import binascii
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from bertprof import formatting
from bertprof.errors import RecordError

Document = TypeVar("Document", bound=msgspec.Struct)

BREAKDOWN, DIFF, TABLE2, METHODS = "bertprof.breakdown", "bertprof.diff", "bertprof.table2", "bertprof.methods"
"""What `schema` says in our documents."""

_KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        BREAKDOWN: ("the record of one model", "bertprof breakdown -o"),
        DIFF: ("a diff", "bertprof diff -o"),
        TABLE2: ("the survey's Table 2", "bertprof survey table2 -o"),
        METHODS: ("the survey's methods", "bertprof survey methods -o"),
    }
)
"""What each is called, and what makes it."""


def head_of(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object that every document of ours is.

    Args:
        content: the JSON, the same compressed by gzip, or an HTML report, which carries it.
        where: what to call the file in an error.

    Raises:
        RecordError: it is no JSON, or no object; it is a page that carries none or several, or is packed wrongly.
    """
    try:
        head = msgspec.json.decode(unpacked(content, where))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{where} is not a record: {_brief(error)}; it may have been cut short") from None
    if not isinstance(head, dict):
        raise RecordError(f"{where} is not a record: it holds no JSON object; `bertprof breakdown -o` makes one")
    return head


MOST_BYTES = 1 << 30
"""Of a compressed document when unpacked: what unpacks to more is no record of ours."""

_GZIP = b"\x1f\x8b"
_CARRIED = re.compile(rb'<a [^<>]*href="data:application/gzip;base64,([A-Za-z0-9+/=]*)" data-record')
"""How an HTML report carries its document; see `bertprof.report.page.carried`. No name in a page can look like
it, since a "<" of a name is written otherwise there."""


def unpacked(content: bytes, where: str) -> bytes:
    """The JSON of a document that may be compressed, or carried by one of our pages; anything else as it is.

    Raises:
        RecordError: it cannot be unpacked, or is a page that carries no document or several.
    """
    if re.match(rb"\s*<", content):
        found = _CARRIED.findall(content)
        if len(found) != 1:
            if found:
                raise RecordError(f"{where} is a page that carries {len(found)} records: save each from it")
            raise RecordError(f"{where} is no page of bertprof's: it carries no record")
        content = _decoded(found[0], where)
    if not content.startswith(_GZIP):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            plain = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordError(f"{where} is not a record: {_brief(error)}; it may have been cut short") from None
    if len(plain) > MOST_BYTES:
        raise RecordError(f"{where} is not a record: it unpacks to more than {MOST_BYTES:,} bytes")
    return plain


def _decoded(content: bytes, where: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise RecordError(f"{where} is not a record: {_brief(error)}; it may have been cut short") from None


def expect(head: Mapping[str, Any], where: str, kind: str) -> None:
    """Makes sure that an object is a document of a kind: BREAKDOWN, DIFF, TABLE2 or METHODS.

    Raises:
        RecordError: it is another one, or none of ours.
    """
    found = head.get("schema")
    if found == kind:
        return
    wanted, made = _KINDS[kind]
    if isinstance(found, str) and found in _KINDS:
        shows = "`bertprof diff` makes one of two records" if kind == DIFF else "`bertprof report` shows it"
        raise RecordError(f"{where} is {_KINDS[found][0]}, not {wanted}; {shows}")
    raise RecordError(f'{where} is not a record: no "schema": "{kind}" in it; `{made}` makes one')


def convert(
    head: Mapping[str, Any],
    where: str,
    kind: type[Document],
    version: str,
    added: Mapping[str, tuple[int, int]],
) -> Document:
    """A document from its JSON object.

    Args:
        head: the object.
        where: what to call the file in an error.
        kind: what it is to be.
        version: the version that this bertprof writes.
        added: the version that added a field, by its path, `$.rows[].size` in a list. A document older than that may
            lack it.

    Raises:
        RecordError: it is of a newer major version, or a field is missing or wrongly typed.
    """
    found = _checked_version(head, where, version)
    try:
        document = msgspec.convert(head, kind)
    except msgspec.ValidationError as error:
        # The path of the whole is left out.
        raise invalid(where, str(error) if "at `" in str(error) else f"{error} - at `$`") from None
    for problem in _absent(head, msgspec.to_builtins(document), "$", found, added):
        raise invalid(where, problem)
    return document


def invalid(where: str, problem: object) -> RecordError:
    """The error of a document with something wrong in it; the text of that ends in the field's path."""
    return RecordError(f"{where} is not a valid record: {_brief(problem)}")


_LONGEST = 400
"""Characters of what is wrong. A text may quote the whole file; the path stands at its end."""


def _brief(problem: object) -> str:
    text = formatting.plain(str(problem))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _checked_version(head: Mapping[str, Any], where: str, ours: str) -> tuple[int, int]:
    version = head.get("schema_version")
    parts = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", version, re.ASCII) if isinstance(version, str) else None
    if parts is None:
        raise invalid(where, "no usable schema_version - at `$.schema_version`")
    major, minor = int(parts[1]), int(parts[2])
    if major > int(ours.partition(".")[0]):
        raise RecordError(
            f"{where} was written with record version {version}; this bertprof reads up to {ours}: upgrade it"
        )
    return major, minor


def _absent(
    found: Any, complete: Any, path: str, version: tuple[int, int], added: Mapping[str, tuple[int, int]]
) -> Iterator[str]:
    """The fields that a document of its version always has and this one lacks; null is there, absent is not."""
    if isinstance(complete, dict) and isinstance(found, Mapping):
        for key, value in complete.items():
            inner = f"{path}.{key}"
            if key in found:
                yield from _absent(found[key], value, inner, version, added)
            elif version >= added.get(re.sub(r"\[\d+\]", "[]", inner), (0, 0)):
                yield f"Object missing required field `{key}` - at `{path}`"
    elif isinstance(complete, list) and isinstance(found, list):
        for i, (item, value) in enumerate(zip(found, complete, strict=False)):
            if isinstance(value, dict):
                yield from _absent(item, value, f"{path}[{i}]", version, added)


def encode(document: msgspec.Struct) -> bytes:
    """A document as JSON: one line a field and one a row of a table, so that two can be compared line by line."""
    lines = []
    for field in document.__struct_fields__:
        value = getattr(document, field)
        encoded = msgspec.json.encode(value)
        if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
            encoded = b"[\n  " + b",\n  ".join(msgspec.json.encode(item) for item in value) + b"\n ]"
        lines.append(b" " + msgspec.json.encode(field) + b": " + encoded)
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def read(path: Path) -> bytes:
    """A file's content.

    Raises:
        RecordError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
