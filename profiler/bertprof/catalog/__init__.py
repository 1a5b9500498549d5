"""The models that bertprof knows without a network: configurations and parameter counts, as data.

Light: reads one JSON file of the package and imports nothing heavy.
"""

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A known model.

    Attributes:
        name: the full name, `organisation/model`.
        aliases: the other names that it goes by, the short one first.
        family: the configuration's `model_type`.
        parameters: scalars of the base model (pooler in, no task's head), each once; of a student whose backbone is no
            Transformer, the classifier is in.
        config: the fields of the configuration that make its architecture.
    """

    name: str
    aliases: tuple[str, ...]
    family: str
    parameters: int
    config: dict[str, Any]

    @property
    def short_name(self) -> str:
        """The name that people type."""
        return self.aliases[0] if self.aliases else self.name

    @property
    def size(self) -> tuple[int, int, int | None]:
        """L, H, A: encoder units, hidden size, attention heads (Section 2 of the survey).

        Of a student with another backbone: its layers or cells, their width, None.
        """
        fields = (
            ("num_hidden_layers", "n_layers", "n_layer"),
            ("hidden_size", "dim", "n_embd", "d_model"),
            ("num_attention_heads", "n_heads", "n_head"),
        )
        layers, hidden, heads = (next((self.config[n] for n in names if n in self.config), None) for names in fields)
        assert layers is not None
        assert hidden is not None
        return layers, hidden, heads


@cache
def entries() -> tuple[Entry, ...]:
    """Every known model, in the order of the file."""
    raw = resources.files(__package__).joinpath("models.json").read_bytes()
    return msgspec.json.decode(raw, type=tuple[Entry, ...])


@cache
def _by_name() -> Mapping[str, Entry]:
    return {name.lower(): entry for entry in entries() for name in (entry.name, *entry.aliases)}


def find(name: str) -> Entry | None:
    """The entry of that full or short name, whatever its case; None where there is none."""
    return _by_name().get(name.lower())


def nearest(name: str, count: int = 3) -> list[str]:
    """Up to `count` known short names that look like `name`, best first."""
    typed = name.lower().rpartition("/")[2]
    begun = [known for known in _by_name() if typed and known.startswith(typed)]
    close = begun + difflib.get_close_matches(typed, list(_by_name()), n=3 * count, cutoff=0.5)
    return list(dict.fromkeys(_by_name()[match].short_name for match in close))[:count]
