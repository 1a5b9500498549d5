"""The entry point of the `bertprof` command and of `python -m bertprof`."""

import os
import signal
import sys
import threading
from types import FrameType

GRACE_S = 1.0
"""How long an interrupt may take to end the program by itself."""


def main() -> None:
    """Runs the command line. Ctrl-C ends it at once, with exit code 130 and no traceback."""
    signal.signal(signal.SIGINT, _interrupted)
    try:
        from bertprof.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, and makes sure that it is obeyed: importing torch can swallow it."""
    watchdog = threading.Timer(GRACE_S, _leave)
    watchdog.daemon = True
    watchdog.start()
    raise KeyboardInterrupt


def _leave() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
