"""Reading a saved document of either kind, for those who show what they are given."""

from pathlib import Path

from bertprof import difference, pooling, record, schema
from bertprof.difference import Diff
from bertprof.record import Breakdown


def load_any(path: str | Path) -> Breakdown | Diff:
    """Reads a record or a diff from a file, by what its `schema` says; a folder of records as one of several processes.

    Raises:
        RecordError: the file cannot be read or is no valid document of either kind.
    """
    if Path(path).is_dir():
        return pooling.load(Path(path))
    head = schema.head_of(schema.read(Path(path)), str(path))
    return difference.of(head, str(path)) if head.get("schema") == schema.DIFF else record.of(head, str(path))
