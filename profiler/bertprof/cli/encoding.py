"""Text for an output whose encoding cannot hold all of it, as a terminal in a locale without UTF-8."""

from collections.abc import Mapping
from types import MappingProxyType

_BLOCKS = "█▉▊▋▌▍▎▏"

_SUBSTITUTES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys("█▉▊▋▌", "#"),
        **dict.fromkeys("▍▎▏", "."),
        **dict(zip("─–−…•·×±→ΔΣ§†µ°²≥≤≠", "---.*.x~>dSS+uo2><!", strict=True)),
    }
)
"""One character for one, so that what is laid out in columns stays so."""


def held_by(encoding: str, text: str) -> str:
    """The text with stand-ins for what the encoding cannot hold; bars are of one kind throughout.

    Characters for which there is no stand-in are left, for the output to replace.
    """
    lost = {character for character in set(text) if not character.encode(encoding, "ignore")}
    if lost & set(_BLOCKS):
        lost |= set(_BLOCKS)
    return text.translate({ord(c): _SUBSTITUTES[c] for c in lost if c in _SUBSTITUTES})
