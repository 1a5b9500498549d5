"""Reading a saved document of any kind, for those who show what they are given."""

from pathlib import Path

from bertprof import difference, pooling, record, schema
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.survey import methods, table2
from bertprof.survey.methods import Methods
from bertprof.survey.table2 import Table2


def load_any(path: str | Path) -> Breakdown | Diff | Table2 | Methods:
    """Reads a record, a diff, a table or the methods of the survey from a file, by what its `schema` says; a folder
    of records as one of several processes.

    Raises:
        RecordError: the file cannot be read or is no valid document of any kind.
    """
    if Path(path).is_dir():
        return pooling.load(Path(path))
    head = schema.head_of(schema.read(Path(path)), str(path))
    match head.get("schema"):
        case schema.DIFF:
            return difference.of(head, str(path))
        case schema.TABLE2:
            return table2.of(head, str(path))
        case schema.METHODS:
            return methods.of(head, str(path))
        case _:
            return record.of(head, str(path))
