"""Runs notebooks from top to bottom in fresh kernels of this Python: `make notebooks`, and the tests of notebooks/.

python tests/executing.py notebooks/*.ipynb
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import nbclient
import nbformat
from nbformat import NotebookNode
from traitlets.config import Config

CELL_S = 300
"""Seconds that a cell may take."""


@contextmanager
def apart() -> Iterator[Path]:
    """An environment in which kernels see no settings, kernels or histories of the user, no hub, and one thread.

    Yields a folder for what kernels need; it has a short name, since the paths of sockets are 107 characters at most.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="nb") as folder:
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            os.environ[name] = folder
        for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "PYTHONSTARTUP"):
            os.environ.pop(name, None)
        # Kernels of this Python go before those that are installed elsewhere on the machine.
        os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        # What bertprof keeps of this machine, as its peaks, is not there on a fresh one; fonts are found only once.
        os.environ |= {"XDG_CACHE_HOME": folder, "MPLCONFIGDIR": matplotlib.get_cachedir()}
        # tqdm, which huggingface_hub imports, warns where no widgets of Jupyter are installed; nothing here shows any.
        os.environ |= {"COLUMNS": "100", "PYTHONWARNINGS": "ignore:IProgress not found"}
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


def executed(path: Path) -> NotebookNode:
    """The notebook with the outputs of a fresh run in its folder, without timestamps or the versions of its tools.

    What shows itself as HTML does without its plain text, which of a whole record is long.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with apart() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=CELL_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            coalesce_streams=True,
            config=Config(KernelManager={"transport": "ipc", "ip": str(folder / "kernel")}),  # no port is taken
        )
        client.execute()
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "text/html" in output.get("data", {}):
            output.data.pop("text/plain", None)
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(display_name="Python 3", language="python", name="python3"),
        language_info=NotebookNode(name="python"),
    )
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:]:
        nbformat.write(executed(Path(name)), name)
