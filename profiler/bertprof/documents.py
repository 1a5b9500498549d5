"""Reading a saved document of either kind, for those who show what they are given."""

from pathlib import Path

from bertprof import difference, record, schema
from bertprof.difference import Diff
from bertprof.record import Breakdown


def load_any(path: str | Path) -> Breakdown | Diff:
    """Reads a record or a diff from a file, by what its `schema` says.

    Raises:
        RecordError: the file cannot be read or is no valid document of either kind.
    """
    head = schema.head_of(schema.read(Path(path)), str(path))
    return difference.of(head, str(path)) if head.get("schema") == schema.DIFF else record.of(head, str(path))
