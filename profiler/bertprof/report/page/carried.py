"""The document that a page carries, so that whoever is given the page has the record as well.

It is a link with the compressed JSON in it, which saves it with or without JavaScript; `bertprof report page.html`
reads it back (see `bertprof.schema.head_of`). The same document gives the same bytes.
"""

import base64
import gzip
import re
from dataclasses import dataclass

from bertprof import schema
from bertprof.report import Document


@dataclass(frozen=True)
class Carried:
    """What a page carries: the name of the file and its content, compressed, in base64."""

    file: str
    content: str


def carried(document: Document, name: str) -> Carried:
    """A document for a page.

    Args:
        document: any that has a JSON form.
        name: what to call the file; whatever no file system takes is left out.
    """
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:80] or "record"
    packed = gzip.compress(schema.encode(document), compresslevel=9, mtime=0)
    return Carried(f"{plain}.json.gz", base64.b64encode(packed).decode("ascii"))
