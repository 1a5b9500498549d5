"""Writing files whole or not at all."""

import os
import tempfile
from pathlib import Path

from bertprof.errors import OutputError

_UMASK = os.umask(0)
os.umask(_UMASK)
"""Read once, at import: it can only be read by setting it, which is no business of a thread."""


def check_writable(path: Path) -> None:
    """Makes sure, before long work, that `path` can be written later. Makes nothing, not even the folder.

    Raises:
        OutputError: the folder cannot be made or written, or `path` is a folder.
    """
    try:
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; name a file in it")
        if _is_special(path):
            return
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        if not existing.is_dir():
            raise OutputError(f"cannot write {path}: {existing} is no folder")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from None


def write_whole(path: Path, content: bytes) -> None:
    """Writes to a temporary file beside `path`, then renames it, so that no reader ever sees half a file.

    A link is followed. What is no regular file (a pipe, /dev/stdout) is written to as it stands.

    Raises:
        OutputError: the folder is not writable, the disk is full, or `path` is a folder.
    """
    check_writable(path)
    temporary = None
    try:
        if _is_special(path):
            path.write_bytes(content)
            return
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as handle:
            temporary = handle.name
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Whether it is there and neither a file nor a folder: a pipe, a device."""
    return path.exists() and not path.is_file() and not path.is_dir()
