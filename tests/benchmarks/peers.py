"""Other counters, each asked what it says of BERT-base and ALBERT-base: the questions of `peers_page.py`.

How many of what a tool counts make one MAC is found by asking it for one linear; what makes its figure differ from what
is due, by asking it for each part of the model alone, at its real size. What it leaves behind in the model is looked
for, also where the forward fails. What no program can find out, whether a tool has a vocabulary of components or
compares two models, is from its documentation.

    python tests/benchmarks/peers.py TOOL SUBJECT
"""

import contextlib
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

PEERS = Path(sys.prefix) / "peers"
"""Where `make bench-peers` installs them, so that nothing else ever imports one."""

MARK = "### "
"""In front of the line that holds the answer: some tools print what they like."""

TOKENS = 128
SUBJECTS: Mapping[str, tuple[str, str]] = {
    "sdpa": ("bert-base-uncased", "sdpa"),
    "eager": ("bert-base-uncased", "eager"),
    "albert": ("albert-base-v2", "sdpa"),
}

# What is due ----------------------------------------------------------------------------------------------------------

WIDTH, INNER, UNITS, EMBEDDED = 768, 3072, 12, 128
PRODUCTS = UNITS * 2 * TOKENS**2 * WIDTH
"""MACs of QKᵀ and ·V: 12 · 2 · 128² · 768 = 301,989,888."""

BERT_MACS = UNITS * TOKENS * (4 * WIDTH**2 + 2 * WIDTH * INNER) + PRODUCTS + WIDTH**2
"""Four attention linears and two of the FFN for each token of a unit, the products, the pooler: 11,174,215,680."""

DUE: Mapping[str, tuple[int, int]] = {
    "sdpa": (BERT_MACS, 109_482_240),
    "eager": (BERT_MACS, 109_482_240),
    "albert": (BERT_MACS + TOKENS * EMBEDDED * WIDTH, 11_683_584),
}
"""Subject → MACs at 1 × 128 with the pooler, parameters. ALBERT also projects its embedding; its units share weights,
which are stored once and multiplied by twelve times."""


# The tools ------------------------------------------------------------------------------------------------------------


@dataclass
class Said:
    """What a tool says of one model.

    Attributes:
        figure: its MACs, or FLOPs where it tells nothing else.
        parameters: its parameters; None: it tells none.
        modules: for how many modules it has a figure of their own.
        operators: whether it has figures by operator.
        timed: whether it tells how long modules took.
        changed: what it left in the model, or in torch.
    """

    figure: int
    parameters: int | None = None
    modules: int = 0
    operators: bool = False
    timed: bool = False
    changed: str = ""


def _bertprof(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    import bertprof

    found = bertprof.profile(model, inputs, min_time_s=0)
    modules = sum(1 for module in found.modules or [] if module.macs)
    return Said(found.total("macs"), found.total("parameters"), modules, True, found.timed)


def _fvcore(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    counted = FlopCountAnalysis(model, (inputs,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    modules = sum(1 for figure in counted.by_module().values() if figure)
    return Said(int(counted.total()), parameter_count(model)[""], modules, bool(counted.by_operator()))


def _flop_counter_mode(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(inputs)
    counts = counter.get_flop_counts()
    return Said(counter.get_total_flops(), None, len(counts.keys() - {"Global"}), bool(counts.get("Global")))


def _thop(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    import thop

    macs, parameters, layers = thop.profile(model, (inputs,), verbose=False, ret_layer_info=True)

    def figures(layers: Mapping[str, Any]) -> int:
        return sum((figure > 0) + figures(below) for figure, _, below in layers.values())

    return Said(int(macs), int(parameters), figures(layers))


def _ptflops(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    import ptflops

    printed = io.StringIO()
    macs, parameters = ptflops.get_model_complexity_info(
        model, tuple(inputs.shape), input_constructor=lambda _: inputs, as_strings=False, ost=printed
    )
    if macs is None:
        raise RuntimeError("gave up")
    return Said(macs, parameters, _printed(printed))


def _calflops(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    import calflops

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        _, macs, parameters = calflops.calculate_flops(model, args=[inputs], output_as_string=False)
    return Said(int(macs), int(parameters), _printed(printed))


def _printed(output: io.StringIO) -> int:
    """How many figures of MACs are printed that are not 0, as of a module each."""
    return sum(
        float(figure) > 0 for figure in re.findall(r"([\d.]+) [kKMGT]?MACs?\b", output.getvalue(), re.IGNORECASE)
    )


def _flops_profiler(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    from flops_profiler.profiler import FlopsProfiler

    return _by_flops_profiler(FlopsProfiler(model), model, inputs)


def _deepspeed(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.profiling.flops_profiler import FlopsProfiler

    return _by_flops_profiler(FlopsProfiler(model), model, inputs)


def _by_flops_profiler(profiler: Any, model: "nn.Module", inputs: "torch.Tensor") -> Said:
    profiler.start_profile()
    model(inputs)
    profiler.stop_profile()
    modules = sum(1 for module in model.modules() if getattr(module, "__flops__", 0))
    timed = all(getattr(module, "__duration__", None) is not None for module in model.modules())
    said = Said(int(profiler.get_total_macs()), int(profiler.get_total_params()), modules, False, timed)
    profiler.end_profile()
    return said


def _torchinfo(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    import torchinfo

    summary = torchinfo.summary(model, input_data=(inputs,), verbose=0)
    modules = sum(1 for layer in summary.summary_list if layer.macs)
    return Said(summary.total_mult_adds, summary.total_params, modules)


def _torchprofile(model: "nn.Module", inputs: "torch.Tensor") -> Said:
    import torchprofile

    nodes = torchprofile.profile_macs(model, (inputs,), reduction=None)
    return Said(sum(nodes.values()), None, len({node.scope for node in nodes} - {"", None}), True)


@dataclass(frozen=True)
class Peer:
    """One tool.

    Attributes:
        distribution: whose version is told.
        ask: asks it for a model.
        components: whether it tells components apart (documentation).
        compares: whether it compares two models (documentation).
    """

    distribution: str
    ask: "Callable[[nn.Module, torch.Tensor], Said]"
    components: bool = False
    compares: bool = False


TOOLS: Mapping[str, Peer] = {
    "bertprof": Peer("bertprof", _bertprof, components=True, compares=True),
    "fvcore": Peer("fvcore", _fvcore),
    "torch's FlopCounterMode": Peer("torch", _flop_counter_mode),
    "thop": Peer("thop", _thop),
    "ptflops": Peer("ptflops", _ptflops),
    "calflops": Peer("calflops", _calflops),
    "flops-profiler": Peer("flops-profiler", _flops_profiler),
    "DeepSpeed's flops profiler": Peer("deepspeed", _deepspeed),
    "torchinfo": Peer("torchinfo", _torchinfo),
    "torchprofile": Peer("torchprofile", _torchprofile),
}


# In a process of its own ----------------------------------------------------------------------------------------------


def built(subject: str) -> "nn.Module":
    """The model that a subject names, with random weights, returning tuples: some tools trace it."""
    import torch
    import transformers

    from bertprof import catalog
    from bertprof.measure import build

    name, attention = SUBJECTS[subject]
    entry = catalog.find(name)
    assert entry is not None
    config = transformers.AutoConfig.for_model(entry.family, **entry.config)
    config.return_dict = False
    return build.with_random_weights(config, None, attention, torch.float32)


@dataclass(frozen=True)
class Part:
    """A kind of part of BERT-base, alone: how often it is there, how it is made, on what it runs, its MACs."""

    times: int
    make: "Callable[[], nn.Module]"
    inputs: "torch.Tensor"
    macs: int


def parts() -> dict[str, list[Part]]:
    """BERT-base at 1 × 128 with SDPA, taken apart, all of real size. Linears stand with their biases and without."""
    import torch
    import transformers
    from torch import nn
    from torch.nn import functional

    class Function(nn.Module):
        def __init__(self, function: "Callable[[torch.Tensor], torch.Tensor]") -> None:
            super().__init__()
            self.function = function

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.function(x)

    class Anchored(nn.Module):  # some tools fail on a model without a parameter
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self.inside, self.anchor = inside, nn.Parameter(torch.zeros(1))

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.inside(x)

    def attention(x: "torch.Tensor") -> "torch.Tensor":
        return functional.scaled_dot_product_attention(x, x, x)  # by its module, where some tools patch it

    tokens, heads = torch.zeros(1, TOKENS, WIDTH), torch.zeros(1, UNITS, TOKENS, WIDTH // 12)
    ids = torch.ones(1, TOKENS, dtype=torch.long)
    # How many of them, in, out, and on what.
    linears = [
        (4 * UNITS, WIDTH, WIDTH, tokens),
        (UNITS, WIDTH, INNER, tokens),
        (UNITS, INNER, WIDTH, torch.zeros(1, TOKENS, INNER)),
        (1, WIDTH, WIDTH, torch.zeros(1, WIDTH)),
    ]

    def of_linears(bias: bool) -> list[Part]:
        return [
            Part(n, lambda i=i, o=o: nn.Linear(i, o, bias=bias), x, x.numel() * o)  # type: ignore[misc]
            for n, i, o, x in linears
        ]

    gelu = transformers.activations.ACT2FN["gelu"]
    return {
        "linears": of_linears(bias=False),
        "linears with biases": of_linears(bias=True),
        "SDPA's products": [Part(UNITS, lambda: Anchored(Function(attention)), heads, PRODUCTS // UNITS)],
        "LayerNorm": [Part(2 * UNITS + 1, lambda: nn.LayerNorm(WIDTH), tokens, 0)],
        "GELU": [Part(UNITS, lambda: Anchored(gelu), torch.zeros(1, TOKENS, INNER), 0)],
        "tanh": [Part(1, lambda: Anchored(nn.Tanh()), torch.zeros(1, WIDTH), 0)],
        "residual sums": [Part(2 * UNITS + 2, lambda: Anchored(Function(lambda x: x + x)), tokens, 0)],
        "embedding tables": [
            Part(1, lambda rows=rows: nn.Embedding(rows, WIDTH), ids, 0)  # type: ignore[misc]
            for rows in (30522, 512, 2)
        ],
    }


def state(model: "nn.Module") -> dict[str, Any]:
    """What a tool may have changed: each module's attributes, hooks, buffers and mode, and torch's functions."""
    import torch

    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        sizes = {key: sorted(map(str, value)) for key, value in vars(module).items() if isinstance(value, dict)}
        found[path] = (type(module), module.training, sorted(vars(module)), sizes)
    for name, place in (("torch.nn.functional", torch.nn.functional), ("torch", torch), ("Tensor", torch.Tensor)):
        found[name] = {key: id(value) for key, value in vars(place).items() if callable(value) and key[0] != "_"}
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What differs between two states, in a few words; "" where nothing does."""
    functions = [
        f"{place}.{name}"
        for place in ("torch.nn.functional", "torch", "Tensor")
        for name in before[place].keys() & after[place].keys()
        if before[place][name] != after[place][name]
    ]
    modules = [path for path in before if isinstance(before[path], tuple) and before[path] != after[path]]
    attributes, hooks = set(), False
    for path in modules:
        attributes |= set(after[path][2]) - set(before[path][2])
        attributes |= set(after[path][3].get("_buffers", ())) - set(before[path][3].get("_buffers", ()))
        hooks |= any(before[path][3].get(key) != held for key, held in after[path][3].items() if "hooks" in key)
    said = []
    if modules:
        what = [*(["hooks"] if hooks else []), *(f"`{name}`" for name in sorted(attributes))]
        said.append(f"{_short(what) or 'modes'} in {len(modules)} of its modules")
    if functions:
        said.append(f"patched: {_short(sorted(functions))}")
    return "; ".join(said)


def _short(names: list[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Without what the tools print and warn of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def answer(tool: str, subject: str) -> dict[str, Any]:
    """Asks a tool for a subject: one of `SUBJECTS`, "parts", or "failing", a forward that raises half-way."""
    import torch

    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    peer = TOOLS[tool]
    if subject == "parts":
        return {"unit": _unit(peer), "parts": _parts(peer)}
    model = built("sdpa" if subject == "failing" else subject)
    ids = torch.ones(1, TOKENS, dtype=torch.long)
    with hushed(), torch.no_grad():
        model(ids)  # what transformers itself makes at the first forward is no change of a tool's
        if subject == "failing":
            return {"left": _left_behind(peer, model, ids)}
        before = state(model)
        said = peer.ask(model, ids)
        said.changed = changes(before, state(model))
    return asdict(said)


def _unit(peer: Peer) -> float:
    """What a tool says of one MAC: of a linear of 64 × 32 on one row, by all of its 2,048."""
    import torch
    from torch import nn

    before, after = 64, 32
    with hushed(), torch.no_grad():
        said = peer.ask(nn.Linear(before, after, bias=False), torch.randn(1, before))
    return said.figure / (before * after)


def _parts(peer: Peer) -> dict[str, list[int | None]]:
    """Part → what is said of all of each of its kinds together; None: the tool fails on it alone."""
    import torch

    def ask(part: Part) -> int | None:
        with hushed(), torch.no_grad():
            try:
                return part.times * peer.ask(part.make().eval(), part.inputs).figure
            except Exception:
                return None

    return {name: [ask(part) for part in kinds] for name, kinds in parts().items()}


def _left_behind(peer: Peer, model: "nn.Module", ids: "torch.Tensor") -> str:
    """What is changed after a forward that raises in the seventh unit."""
    from torch import nn

    class Failing(nn.Module):
        def forward(self, *_: Any, **__: Any) -> None:
            raise ValueError("planted")

    model.get_submodule("encoder.layer.6").output.dense = Failing().eval()  # type: ignore[union-attr]
    before = state(model)
    try:
        peer.ask(model, ids)
    except Exception:
        return changes(before, state(model))
    return "no error told"


if __name__ == "__main__":
    print(MARK + json.dumps(answer(*sys.argv[1:])))
