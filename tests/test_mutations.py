"""Whatever is done to a document, reading it gives a document or one line; and what was read can be used."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from bertprof import difference, record, schema
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.errors import BertprofError, RecordError
from bertprof.observations import Energy
from bertprof.record import Breakdown, Caveat, Checkpoint, Operator
from handmade import cost, made, module_of


def small() -> Breakdown:
    """A record that has something in every field: two processes of four repeats, two units and what is outside."""
    counts = {"nonzero_parameters": 5, "useful_macs": 2, "bytes_moved": 9, "activation_bytes": 4}
    costs = [
        cost(
            component,
            unit,
            [1.0 + i / 8 + scale / 4 for i in range(8)],
            parameters=6 * scale,
            parameter_bytes=24 * scale,
            macs=3 * scale,
            flops=7 * scale,
            operators={"aten::linear": Operator(calls=2, macs=3, flops=7)},
            device_time_ms=[0.5, 0.25],
            energy_mj=[1.0, 2.0, 3.0, 4.0],
            **counts,
        )
        for scale, (unit, component) in enumerate(
            [(None, Component.EMBEDDING), (0, Component.SOFTMAX_ATTENTION), (0, Component.FFN), (1, Component.FFN)], 1
        )
    ]
    return made(
        *costs,
        workload={"recipes": ["int8"], "task": "masked-lm", "device": "cuda:0", "padding": 0.25, "mask": "4d"},
        host={"gpu": "g", "gpu_memory_bytes": 9, "driver": "d", "clocks": {"sm": 1500}, "memory_bytes": 9},
        label="small",
        checkpoint=Checkpoint(format="safetensors", files=1, file_bytes=30, load_time_ms=12.5),
        modules=[module_of(c, 1.5) for c in costs],
        yardstick_ms={Component.FFN: [0.5] * 8, Component.SOFTMAX_ATTENTION: [0.25] * 8},
        processes=2,
        run="r",
        peak_memory_bytes=1000,
        energy=Energy(method="replay", total_mj=[4.0, 8.0, 12.0, 16.0]),
        caveats=[Caveat(code="time-not-split", text="one function", component=Component.FFN, unit=0, value=0.5)],
    )


VALUES = [
    *(None, True, False, -1, 0, 1, 2, 7, 9999, 10_000, 2**31, 2**53 + 1, 2**62, 2**63, 2**64, 10**400, -(10**400)),
    *(1e-320, 1e-6, 0.5, 1.5, 1e12, 1e18, 1e300, -1e300, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        "x",
        "0",
        "1.0",
        "1.99",
        "2.0",
        "ffn",
        "total",
        "unit[0]",
        "faster",
        "n/a",
        "hooks",
        "cuda:1",
        "NaN",
        "x" * 2000,
    ),
    *("\u0000", "\u001b[31m", "\u2028\n\r", "é\u0301\U0001f600\u202e", "<img src=x onerror=alert(1)>|`"),
    *([], [[]], [1], [1.0] * 8, [None], {}, {"": 1}, {"a": {"b": [1]}}, {"ffn": [1.0] * 8}),
]


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON document with each of its keys."""
    found = []
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        found.append((data, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


def deep(generator: random.Random) -> Any:
    value: Any = 1
    for _ in range(generator.choice([3, 50, 400])):
        value = [value] if generator.random() < 0.5 else {"a": value}
    return value


def mutated(data: Any, generator: random.Random) -> None:
    """One change of a JSON document, in place."""
    container, key = generator.choice(places(data))
    value = container[key]
    kind = generator.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.insert(generator.randrange(len(container) + 1), value)
    elif kind == 1:
        container[generator.choice(["", "x", f"{key}_", "unit"])] = value
    elif kind == 2 and isinstance(value, int | float) and not isinstance(value, bool):
        container[key] = value * generator.choice([-1, 0, 0.5, 2, 10, 1e-9, 1e9, 1e30]) + generator.choice(
            [0, 0, 1, 0.5]
        )
    elif kind == 3 and isinstance(value, list):
        container[key] = generator.choice([value[:-1], value * 2, value[::-1], value[:1], value[: len(value) // 2]])
    elif kind == 4:
        other, place = generator.choice(places(data))
        container[key], other[place] = other[place], container[key]
    elif kind == 5:
        container[key] = deep(generator)
    else:
        container[key] = generator.choice(VALUES)


def garbled(content: bytes, generator: random.Random) -> bytes:
    """One change of a file, wherever it falls."""
    at, to = sorted(generator.randrange(len(content)) for _ in range(2))
    match generator.randrange(5):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + bytes([content[at] ^ (1 << generator.randrange(8))]) + content[at + 1 :]
        case 2:
            return content[:at] + content[to:]
        case 3:
            return content[:to] + content[at:]
        case _:
            return (
                content[:at] + generator.choice([b"\x00", b"\xff", b"\\ud800", b"9", b"-", b'"', b","]) + content[at:]
            )


def mutations(content: bytes, number: int, seed: int) -> list[bytes]:
    """Mutations of a document, of which most are still JSON."""
    generator = random.Random(seed)
    found = []
    for _ in range(number):
        if generator.random() < 0.2:
            found.append(garbled(content, generator))
            continue
        data = json.loads(content)
        for _ in range(generator.choice([1, 1, 1, 2, 3])):
            if places(data):
                mutated(data, generator)
        found.append(json.dumps(data, ensure_ascii=generator.random() < 0.5).encode(errors="surrogatepass"))
    return found


def read(content: bytes, decode: Callable[[bytes, str], Any]) -> Any:
    """What is read of it; None where that is refused, in one line and with the path of what is wrong."""
    try:
        return decode(content, "x.json")
    except RecordError as error:
        text = str(error)
        assert text.isprintable()  # and so of one line
        assert text.startswith(
            ("x.json is not a record: ", "x.json is not a valid record: ", "x.json was written with ")
        )
        assert len(text) < 500
        assert "not a valid record" not in text or "- at `" in text
        return None


CONTENT = record.encode(small())


@pytest.mark.parametrize("seed", range(10))
def test_a_mutated_record_is_read_or_refused_in_one_line(seed: int):
    whole = small()
    loaded = 0
    for number, content in enumerate(mutations(CONTENT, 1000, seed)):
        found = read(content, record.decode)
        if found is None:
            continue
        loaded += 1
        assert record.decode(record.encode(found), "again") == found
        if number % 4:
            continue
        for before, after in ((whole, found), (found, whole)):
            diff = Comparison(before, after).diff()
            assert difference.decode(schema.encode(diff), "diff") == diff
        for by in ("component", "unit", "module"):
            try:
                assert found.text(by=by, wide=True)
            except BertprofError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017
    assert 50 < loaded < 900


def test_a_mutated_diff_is_read_or_refused_in_one_line():
    after = small()
    after.workload.batch_size = 2
    after.costs[1].macs += 1
    diff = Comparison(small(), after, ["batch_size"]).diff()
    diff.command = "bertprof diff"
    loaded = 0
    for content in mutations(schema.encode(diff), 1500, 0):
        found = read(content, difference.decode)
        if found is not None:
            loaded += 1
            assert difference.decode(schema.encode(found), "again") == found
    assert 50 < loaded < 1350
