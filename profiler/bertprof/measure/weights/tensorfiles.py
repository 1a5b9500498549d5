"""Files of tensors: which of them a folder holds, what their headers say, and reading tensors one at a time.

Nothing in a file is ever executed. It is safetensors, or a pickle of plain tensors (`torch.load(weights_only=True)`).
"""

import json
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bertprof.errors import ConfigurationError, first_line
from bertprof.measure import build

_FILES: Mapping[str, Literal["safetensors", "pytorch"]] = {
    "model.safetensors": "safetensors",
    "model.safetensors.index.json": "safetensors",
    "pytorch_model.bin": "pytorch",
    "pytorch_model.bin.index.json": "pytorch",
}
"""What transformers looks for, in its order."""

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The types of a safetensors header that torch has too, a whole number of bytes each."""

Reader = Callable[[str], Tensor]
"""Name of a stored tensor → the tensor."""


class Header(NamedTuple):
    """What is known of a stored tensor without reading it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path

    @property
    def bytes(self) -> int:
        """Bytes as stored."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a folder.

    Attributes:
        folder: where they are.
        format: how they are written.
        files: those that hold tensors, an index aside.
        file_bytes: their size on disk together.
        tensors: the name of each stored tensor → its header.
    """

    folder: Path
    format: Literal["safetensors", "pytorch"]
    files: tuple[Path, ...]
    file_bytes: int
    tensors: Mapping[str, Header]

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """While open, reads tensors by name. Of all formats but the oldest pickles, only what is asked for is read."""
        opened: dict[Path, Reader] = {}
        with ExitStack() as stack:

            def read(name: str) -> Tensor:
                file = self.tensors[name].file
                if file not in opened and self.format == "safetensors":
                    opened[file] = stack.enter_context(safe_open(file, framework="pt")).get_tensor
                elif file not in opened:
                    opened[file] = _unpickled(file).__getitem__
                return opened[file](name)

            yield read


def open_checkpoint(folder: Path) -> Checkpoint | None:
    """The weights of a folder by their headers; None where it has none.

    Raises:
        ConfigurationError: a file is missing, broken, unreadable, or holds more than tensors.
    """
    found = next((name for name in _FILES if (folder / name).is_file()), None)
    if found is None:
        return None
    indexed = _index(folder / found) if found.endswith(".json") else {}
    files = tuple(folder / name for name in sorted(set(indexed.values()))) or (folder / found,)
    headers = _safetensors_headers if _FILES[found] == "safetensors" else _pickle_headers
    tensors: dict[str, Header] = {}
    for file in files:
        if not file.is_file():
            text = f"the checkpoint in {folder} lacks {file.name}, one of the {len(files)} files that {found} names"
            raise ConfigurationError(f"{text}; fetch that file too")
        try:
            if not file.stat().st_size:
                raise _broken(file, "it is empty")
            tensors |= headers(file)
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}; make it readable") from None
    for name, shard in indexed.items():
        if name not in tensors or tensors[name].file.name != shard:
            raise _broken(folder / shard, f"it lacks {name}, which {found} says is in it")
    return Checkpoint(folder, _FILES[found], files, sum(file.stat().st_size for file in files), tensors)


def _broken(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be read: {what}; fetch or save it again")


def _index(path: Path) -> dict[str, str]:
    """Tensor → the file that holds it."""
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}; make it readable") from None
    except (ValueError, RecursionError):
        raise _broken(path, "it is no JSON") from None
    except (KeyError, TypeError):
        raise _broken(path, "it has no weight_map") from None
    # A file's name only: no path that leads out of the folder.
    if not isinstance(shards, dict) or not shards or not all(_is_file_name(shard) for shard in shards.values()):
        raise _broken(path, "its weight_map does not map tensors to files of this folder")
    return shards


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and Path(name).name == name


def _safetensors_headers(path: Path) -> dict[str, Header]:
    headers: dict[str, Header] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                part = file.get_slice(name)
                if part.get_dtype() not in _DTYPES:
                    raise _broken(path, f"{name} is of the unknown type {part.get_dtype()}")
                headers[name] = Header(tuple(part.get_shape()), _DTYPES[part.get_dtype()], path)
    except SafetensorError as error:
        raise _broken(path, f"it is cut short or no safetensors file ({first_line(error)})") from None
    return headers


def _pickle_headers(path: Path) -> dict[str, Header]:
    return {name: Header(tuple(tensor.shape), tensor.dtype, path) for name, tensor in _unpickled(path).items()}


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.bin`, mapped from disk where its format allows it (since torch 1.6)."""
    try:
        with build.quiet():
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # Others may hold no code at all, but whatever is not plainly tensors would have to be executed.
        match = re.search(r"GLOBAL (\S+)", str(error))
        refused = match[1] if match else _first_global(path)
        if refused is None:
            raise _broken(path, "it is no checkpoint of torch") from None
        raise ConfigurationError(
            f"{path} is refused: loading it would run {refused}, and bertprof never runs what a checkpoint holds; "
            "save the weights alone, as safetensors (model.save_pretrained)"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        if build.is_out_of_memory(error):
            raise
        raise _broken(path, f"it is cut short or no checkpoint of torch ({first_line(error)})") from None
    tensors: dict[str, Tensor] = {}
    for name, value in state.items() if isinstance(state, Mapping) else ():
        if isinstance(value, Tensor):
            tensors[name] = value.detach()
        elif str(name).endswith("._packed_params._packed_params") and len(value) == 2:
            prefix = name.removesuffix("_packed_params._packed_params")
            for field in ("scale", "zero_point"):  # of activations
                tensors.pop(prefix + field, None)
            tensors |= _unpacked_linear(prefix, *value)
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise _broken(path, "it holds no dict of tensors, as model.state_dict() gives")
    return tensors


def _unpacked_linear(prefix: str, weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    """The tensors in the packed parameters of torch.ao's quantised linear, under the names of the int8 layout."""
    per_row = weight.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
    scale = weight.q_per_channel_scales() if per_row else torch.tensor(weight.q_scale(), dtype=torch.float64)
    zero = weight.q_per_channel_zero_points() if per_row else torch.tensor(weight.q_zero_point())
    tensors = {"weight": weight.int_repr(), "weight_scale": scale, "weight_zero_point": zero}
    if bias is not None:
        tensors["bias"] = bias.detach()
    return {prefix + field: tensor for field, tensor in tensors.items()}


def _first_global(path: Path) -> str | None:
    """The first function or class that a pickle names, found without executing it."""
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    return str(argument).replace(" ", ".")
                if code.name == "STACK_GLOBAL":
                    return ".".join(strings[-2:])
                if isinstance(argument, str):
                    strings.append(argument)
    except ValueError:
        pass
    return None
