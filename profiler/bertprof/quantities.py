"""The kinds of numbers that saved documents hold, with their bounds."""

from typing import Annotated

import msgspec

MOST = 2**62
"""No count, and no sum of counts over all rows, is larger: all fit into 64 bits."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Size = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Unit = Annotated[int, msgspec.Meta(ge=0, lt=10_000)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Samples = list[Milliseconds]
Forwards = Annotated[list[Annotated[float, msgspec.Meta(ge=1e-4, le=1e12)]], msgspec.Meta(min_length=1)]
"""What whole forwards took: one tick of 0.1 µs at least."""
Nanoseconds = Annotated[float, msgspec.Meta(ge=1e-3, le=1e15)]
"""What one operator takes."""
Rate = Annotated[float, msgspec.Meta(ge=1e-3, le=1e18)]
"""Something a second, by which is divided: what is next to nothing would make any time infinite."""
