"""Components found by what a model computes: against the tables of known families, and in models written by hand."""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import bertprof
from bertprof import catalog
from bertprof.attribution import Region
from bertprof.components import Component
from bertprof.measure import anatomy, build, flops, structure
from bertprof.measure.flops import Counts
from bertprof.measure.inputs import Inputs
from bertprof.measure.parameters import count_parameters
from conftest import FAMILIES, tiny_config, tiny_twin

Regions = dict[str, Region]


class Found(NamedTuple):
    """What a model came out with: by component, and by unit and component."""

    regions: Regions
    counts: Counts
    parameters: dict[Any, int]
    macs: dict[Any, int]
    flops: dict[Any, int]

    def by_component(self, what: str) -> dict[str, int]:
        totals: Counter[str] = Counter()
        for (_, component), number in getattr(self, what).items():
            totals[component] += number
        return dict(totals)

    def units(self) -> set[int]:
        """The units that multiply something."""
        return {unit for unit, _ in self.macs if unit is not None}


def counted(model: nn.Module, inputs: Inputs, regions: Regions) -> Found:
    counts = flops.count(model, inputs, regions)
    parameters: Counter[Hashable] = Counter()
    for owner, storage in count_parameters(model, regions, counts.units).items():
        parameters[owner.unit, str(owner.component)] += storage.parameters
    macs: Counter[Hashable] = Counter()
    operations: Counter[Hashable] = Counter()
    for owner, (products, everything) in counts.totals().items():
        macs[owner.unit, str(owner.component)] += products
        operations[owner.unit, str(owner.component)] += everything
    # Whatever comes out, nothing is lost.
    assert sum(parameters.values()) == sum(p.numel() for p in model.parameters())
    plain = flops.count_by_dispatch(model, inputs, {}).totals()
    assert sum(macs.values()) == sum(number for number, _ in plain.values())
    return Found(regions, counts, dict(+parameters), dict(+macs), dict(+operations))


def ids(batch: int, length: int) -> Inputs:
    return Inputs(kwargs={"input_ids": torch.zeros(batch, length, dtype=torch.long, device="meta")})


# Families with their tables hidden ------------------------------------------------------------------------------------


def agreement(tabled: dict[Any, int], found: dict[Any, int]) -> float:
    """The share that stands in the same component of the same unit."""
    return sum(min(number, found.get(key, 0)) for key, number in tabled.items()) / sum(tabled.values())


def agrees(model: nn.Module, inputs: Inputs) -> tuple[float, float]:
    """The agreement of parameters and of MACs."""
    by_table = counted(model, inputs, anatomy.regions_of(model))
    by_structure = counted(model, inputs, structure.regions_of(model, inputs))
    assert by_structure.units() == by_table.units()
    return agreement(by_table.parameters, by_structure.parameters), agreement(by_table.macs, by_structure.macs)


@pytest.mark.parametrize(
    ("family", "attention"),
    [
        (family, attention)
        for family in FAMILIES
        for attention in ("sdpa", "eager")
        if attention == "eager" or build.has_sdpa(tiny_config(family), None)
    ],
)
def test_structure_finds_what_the_table_says(family: str, attention: str):
    parameters, macs = agrees(tiny_twin(family, attention), ids(2, 12))
    assert macs == 1
    # What no operator of this forward uses (XLNet's segments) cannot be found.
    assert parameters >= (1 if family not in ("deberta", "deberta-v2", "xlnet") else 0.95)


@pytest.mark.parametrize("family", ["bert", "mobilebert", "xlnet", "modernbert"])
def test_structure_finds_what_the_table_says_of_default_configurations(family: str):
    config = transformers.AutoConfig.for_model(family)
    attention = "sdpa" if build.has_sdpa(config, None) else "eager"
    parameters, macs = agrees(build.on_meta(config, None, attention, torch.float32), ids(1, 128))
    assert macs == 1
    assert parameters > 0.999


@pytest.mark.parametrize("name", ["deberta-base", "deberta-v3-small"])
def test_structure_finds_what_the_table_says_of_published_ones(name: str):
    """Relative positions take up less of these than of the small ones above."""
    entry = catalog.find(name)
    assert entry is not None
    config = transformers.AutoConfig.for_model(entry.family, **entry.config)
    parameters, macs = agrees(build.on_meta(config, None, "eager", torch.float32), ids(1, 128))
    assert macs == 1
    assert parameters > 0.99


@pytest.mark.parametrize("task", ["question-answering", "sequence-classification"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "mobilebert", "squeezebert", "gpt2", "modernbert"])
def test_structure_finds_heads(family: str, task: str):
    assert agrees(tiny_twin(family, task=task), ids(2, 12)) == (1, 1)


@pytest.mark.parametrize("family", ["bert", "electra", "gpt2", "modernbert"])
def test_structure_leaves_a_tied_table_in_embedding(family: str):
    assert agrees(tiny_twin(family, task="masked-lm" if family != "gpt2" else "pretraining"), ids(2, 12)) == (1, 1)


def test_structure_finds_the_units_under_mobilebert_s_head():
    agrees(tiny_twin("mobilebert", task="masked-lm"), ids(2, 12))


# Models written by hand -----------------------------------------------------------------------------------------------

V, P, C, L, H, A, W = 50, 16, 3, 3, 24, 4, 40
"""Words, positions, classes, units, hidden size, heads, width of the FFN."""
B, S = 2, 10
"""Sequences and their tokens."""
TOKENS = B * S


def split_heads(x: Tensor, heads: int = A) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def ffn() -> nn.Module:
    return nn.Sequential(nn.Linear(H, W), nn.GELU(), nn.Dropout(0.1), nn.Linear(W, H), nn.Dropout(0.1))


class Sizes(NamedTuple):
    """A small encoder of the usual kind."""

    layers: int = L
    heads: int = A
    head: int = H // A
    width: int = W
    pre: bool = True
    fused: bool = True  # queries, keys and values in one linear
    sdpa: bool = True
    bias: bool = True


class Block(nn.Module):
    """An encoder unit whose attention stands in its forward."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        hidden = sizes.heads * sizes.head
        if sizes.fused:
            self.qkv = nn.Linear(hidden, 3 * hidden, bias=sizes.bias)
        else:
            self.q, self.k, self.v = (nn.Linear(hidden, hidden, bias=sizes.bias) for _ in range(3))
        self.out = nn.Linear(hidden, hidden, bias=sizes.bias)
        self.up = nn.Linear(hidden, sizes.width, bias=sizes.bias)
        self.down = nn.Linear(sizes.width, hidden, bias=sizes.bias)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        if self.sizes.pre:
            x = x + self.attend(self.norm1(x))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))

    def attend(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).chunk(3, dim=-1) if self.sizes.fused else (self.q(x), self.k(x), self.v(x))
        q, k, v = (split_heads(part, self.sizes.heads) for part in parts)
        if self.sizes.sdpa:
            return self.out(join_heads(functional.scaled_dot_product_attention(q, k, v)))
        scores = q @ k.transpose(-1, -2) / self.sizes.head**0.5
        return self.out(join_heads(scores.softmax(dim=-1) @ v))


class Encoder(nn.Module):
    """Tables of words and positions, their sum and its norm; then units; then a classifier on the first token."""

    def __init__(self, *blocks: nn.Module, hidden: int = H) -> None:
        super().__init__()
        self.words = nn.Embedding(V, hidden)
        self.positions = nn.Embedding(P, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.blocks = nn.ModuleList(blocks)
        self.classifier = nn.Linear(hidden, C)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x[:, 0])


def encoder_of(unit: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Encoder(*(unit() for _ in range(L)))


ATTENTION_MACS = {
    "attention-linear-in": L * 3 * TOKENS * H * H,
    "softmax-attention": L * 2 * TOKENS * S * H,
    "attention-linear-out": L * TOKENS * H * H,
}
FFN_MACS = {"ffn": L * 2 * TOKENS * H * W}
HEAD_MACS = {"head": B * H * C}
MACS = {**ATTENTION_MACS, **FFN_MACS, **HEAD_MACS}
PARAMETERS = {
    "embedding": (V + P) * H,
    "attention-linear-in": L * 3 * (H * H + H),
    "attention-linear-out": L * (H * H + H),
    "ffn": L * (H * W + W + W * H + H),
    "add-norm": 2 * H + L * 4 * H,
    "head": H * C + C,
}


def found_in(make: Callable[[], nn.Module], *args: Tensor, mapping: dict[str, str] | None = None) -> Found:
    """What structure finds in a model of no family on the meta device; by default it is run on token ids."""
    with torch.device("meta"):
        model = make().eval()
    assert anatomy.bases_of(model) == []
    inputs = Inputs(args or (torch.zeros(B, S, dtype=torch.long, device="meta"),))
    return counted(model, inputs, anatomy.regions_of(model, inputs, mapping))


def hidden_states(length: int = S) -> Tensor:
    return torch.zeros(B, length, H, device="meta")


@pytest.mark.parametrize(
    "sizes",
    [Sizes(), Sizes(pre=False, fused=False, sdpa=False), Sizes(fused=False), Sizes(pre=False, sdpa=False)],
    ids=["pre-norm, fused, sdpa", "post-norm, separate, matmul", "pre-norm, separate", "post-norm, fused"],
)
def test_an_encoder_with_inline_attention(sizes: Sizes):
    found = found_in(encoder_of(lambda: Block(sizes)))
    assert found.by_component("macs") == MACS
    assert found.by_component("parameters") == PARAMETERS
    assert found.units() == set(range(L))
    assert {found.counts.units[f"blocks.{unit}.up"] == {unit} for unit in range(L)} == {True}
    assert found.counts.caveats == []
    # What is not a product goes by what is around it. A score: scale 1, softmax 5; norm 5, sum 1, bias 1, GELU 8.
    assert found.by_component("flops") == {
        "embedding": TOKENS * H,
        "attention-linear-in": 2 * MACS["attention-linear-in"] + L * TOKENS * 3 * H,
        "softmax-attention": 2 * MACS["softmax-attention"] + L * B * A * S * S * (1 + 5),
        "attention-linear-out": 2 * MACS["attention-linear-out"] + L * TOKENS * H,
        "ffn": 2 * MACS["ffn"] + L * (TOKENS * W * (1 + 8) + TOKENS * H),
        "add-norm": TOKENS * H * 5 + L * 2 * TOKENS * H * (1 + 5),
        "head": 2 * MACS["head"] + B * C,
    }


class RotaryAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(H, H, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(linear(x)) for linear in (self.wq, self.wk, self.wv))
        return self.wo(join_heads(functional.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v)))

    def rotated(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        places, pairs = (torch.arange(size, device=x.device) for size in (x.shape[-2], half))
        angles = places[:, None] / 100 ** (pairs / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)


class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(H, W, bias=False), nn.Linear(H, W, bias=False)
        self.down = nn.Linear(W, H, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class RmsNorm(nn.Module):
    """As many write it out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Gated(nn.Module):
    """A unit as of Llama."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.attention, self.ffn = RotaryAttention(), SwiGlu()
        self.norm1, self.norm2 = norm(H), norm(H)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.ffn(self.norm2(x))


@pytest.mark.parametrize("norm", [nn.RMSNorm, RmsNorm])
def test_rotary_swiglu_and_rms_norm(norm: Callable[[int], nn.Module]):
    found = found_in(encoder_of(lambda: Gated(norm)))
    assert found.by_component("macs") == {**MACS, "ffn": L * 3 * TOKENS * H * W}
    assert found.by_component("parameters") == {
        **PARAMETERS,
        "attention-linear-in": L * 3 * H * H,
        "attention-linear-out": L * H * H,
        "ffn": L * 3 * H * W,
        "add-norm": 2 * H + L * 2 * H,
    }
    assert found.units() == set(range(L))


def test_torch_rms_norm_counts_alike_both_ways():
    found = found_in(lambda: nn.Sequential(nn.RMSNorm(H), nn.Linear(H, H)), hidden_states())
    assert found.counts.caveats == []


class Bare(nn.Module):
    """All weights are parameters of the unit, multiplied in one forward."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in {"qkv": (3 * H, H), "out": (H, H), "up": (W, H), "down": (H, W)}.items():
            setattr(self, f"{name}_weight", nn.Parameter(torch.empty(shape)))
            setattr(self, f"{name}_bias", nn.Parameter(torch.empty(shape[0])))
        for name in ("norm1_weight", "norm1_bias", "norm2_weight", "norm2_bias"):
            setattr(self, name, nn.Parameter(torch.empty(H)))

    def forward(self, x: Tensor) -> Tensor:
        normed = functional.layer_norm(x, (H,), self.norm1_weight, self.norm1_bias)
        q, k, v = (split_heads(t) for t in functional.linear(normed, self.qkv_weight, self.qkv_bias).chunk(3, dim=-1))
        x = x + functional.linear(
            join_heads(functional.scaled_dot_product_attention(q, k, v)), self.out_weight, self.out_bias
        )
        normed = functional.layer_norm(x, (H,), self.norm2_weight, self.norm2_bias)
        return x + functional.linear(
            functional.gelu(functional.linear(normed, self.up_weight, self.up_bias)), self.down_weight, self.down_bias
        )


def test_bare_parameters_in_one_forward():
    found = found_in(encoder_of(Bare))
    assert found.by_component("macs") == MACS
    assert found.by_component("parameters") == PARAMETERS
    assert found.units() == set(range(L))
    assert found.regions["blocks.1"].split
    assert found.regions["blocks.1"].component is Component.SOFTMAX_ATTENTION
    assert [caveat.code for caveat in found.counts.caveats] == ["counted-by-dispatch"]


class Attention(nn.Module):
    """With plain products, attending to itself or to what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(H, H), nn.Linear(H, 2 * H), nn.Linear(H, H)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        q, (k, v) = self.q(x), self.kv(x if memory is None else memory).chunk(2, dim=-1)
        q, k, v = (split_heads(t) for t in (q, k, v))
        scores = (torch.matmul(q, k.transpose(-1, -2)) * (H / A) ** -0.5).softmax(dim=-1)
        return self.out(join_heads(torch.matmul(scores, v)))


class PreNorm(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(H), inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.norm(x))


class Siblings(nn.Module):
    """Attention and FFN beside each other, in pairs or in two lists: no module's forward holds a unit."""

    def __init__(self, pairs: bool, wrapped: bool) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(V, H), nn.Parameter(torch.empty(P, H))
        wrap: Any = PreNorm if wrapped else nn.Sequential
        if pairs:
            self.layers = nn.ModuleList(nn.ModuleList((wrap(Attention()), wrap(ffn()))) for _ in range(L))
        else:
            self.attentions = nn.ModuleList(wrap(Attention()) for _ in range(L))
            self.ffs = nn.ModuleList(wrap(ffn()) for _ in range(L))
        self.norms = nn.ModuleList(nn.Identity() if wrapped else nn.LayerNorm(H) for _ in range(2 * L))
        self.norm, self.classifier = nn.LayerNorm(H), nn.Linear(H, C)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions[: ids.shape[1]]
        pairs = self.layers if hasattr(self, "layers") else zip(self.attentions, self.ffs, strict=True)
        for (attention, ff), norm1, norm2 in zip(pairs, self.norms[::2], self.norms[1::2], strict=True):
            x = norm1(x + attention(x))
            x = norm2(x + ff(x))
        return self.classifier(self.norm(x)[:, 0])


@pytest.mark.parametrize("wrapped", [True, False], ids=["pre-norm in a wrapper", "post-norm"])
@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "two lists"])
def test_attention_and_ffn_beside_each_other(pairs: bool, wrapped: bool):
    found = found_in(lambda: Siblings(pairs, wrapped))
    assert found.by_component("macs") == MACS
    assert found.by_component("parameters") == PARAMETERS
    one_unit = {(unit, component): MACS[component] // L for unit in range(L) for component in (*ATTENTION_MACS, "ffn")}
    assert found.macs == {**one_unit, (None, "head"): MACS["head"]}


class Loose(nn.Module):
    """The linears of an FFN stand beside the attention, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(V, H), nn.Parameter(torch.empty(P, H))
        self.attentions = nn.ModuleList(Attention() for _ in range(L))
        self.ups, self.downs = (nn.ModuleList(nn.Linear(*s) for _ in range(L)) for s in ((H, W), (W, H)))
        self.norms = nn.ModuleList(nn.LayerNorm(H) for _ in range(2 * L))
        self.norm, self.classifier = nn.LayerNorm(H), nn.Linear(H, C)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions[: ids.shape[1]]
        for i in range(L):
            x = self.norms[2 * i](x + self.attentions[i](x))
            x = self.norms[2 * i + 1](x + self.downs[i](functional.gelu(self.ups[i](x))))
        return self.classifier(self.norm(x)[:, 0])


def test_linears_of_an_ffn_beside_attention():
    found = found_in(Loose)
    assert found.by_component("macs") == MACS
    assert found.by_component("parameters") == PARAMETERS
    assert found.macs == found_in(lambda: Siblings(True, True)).macs


def test_a_mapping_leaves_an_ffn_in_its_unit():
    found = found_in(lambda: Siblings(True, True), mapping={r"layers\.\d\.1": "ffn"})
    assert found.macs == found_in(lambda: Siblings(True, True)).macs


class Stock(nn.Module):
    """torch's own encoder, whose attention does all of its linears in one function."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(V, H), nn.LayerNorm(H)
        layer = nn.TransformerEncoderLayer(H, A, W, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, L, enable_nested_tensor=False)
        self.classifier = nn.Linear(H, C)

    def forward(self, ids: Tensor) -> Tensor:
        return self.classifier(self.encoder(self.norm(self.words(ids)))[:, 0])


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "activation": "gelu"}], ids=["post-norm", "pre-norm"])
def test_torch_encoder(options: dict[str, Any]):
    found = found_in(lambda: Stock(**options))
    assert found.by_component("macs") == MACS
    assert found.by_component("parameters") == {**PARAMETERS, "embedding": V * H}
    assert found.units() == set(range(L))
    assert {p for p, region in found.regions.items() if region.split} == {
        f"encoder.layers.{u}.self_attn" for u in range(L)
    }
    assert [caveat.code for caveat in found.counts.caveats] == ["counted-by-dispatch"]


class DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own, self.cross, self.ffn = Attention(), Attention(), ffn()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(H) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = self.norm1(x + self.own(x))
        x = self.norm2(x + self.cross(x, memory))
        return self.norm3(x + self.ffn(x))


class Decoder(nn.Module):
    """Units of self-attention, attention to a memory and an FFN."""

    def __init__(self, layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer() for _ in range(L))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, memory)
        return x


M = 7
"""Tokens of a memory."""
DECODER_MACS = {
    # Keys and values of cross-attention are made from the memory.
    "attention-linear-in": L * B * (3 * S + S + 2 * M) * H * H,
    "softmax-attention": L * 2 * B * (S * S + S * M) * H,
    "attention-linear-out": L * 2 * TOKENS * H * H,
    **FFN_MACS,
}
DECODER_PARAMETERS = {
    "attention-linear-in": 2 * PARAMETERS["attention-linear-in"],
    "attention-linear-out": 2 * PARAMETERS["attention-linear-out"],
    "ffn": PARAMETERS["ffn"],
    "add-norm": L * 3 * 2 * H,
}


def parts_of_one(totals: dict[str, int]) -> dict[str, int]:
    return {component: total // L for component, total in totals.items()}


@pytest.mark.parametrize(
    "layer", [DecoderLayer, lambda: nn.TransformerDecoderLayer(H, A, W, batch_first=True)], ids=["by hand", "torch's"]
)
def test_a_decoder_with_self_and_cross_attention(layer: Callable[[], nn.Module]):
    found = found_in(lambda: Decoder(layer), hidden_states(), hidden_states(M))
    assert found.by_component("macs") == DECODER_MACS
    assert found.by_component("parameters") == DECODER_PARAMETERS
    assert found.units() == set(range(L))


@pytest.mark.parametrize(
    "layer",
    [
        DecoderLayer,
        lambda: nn.TransformerDecoderLayer(H, A, W, batch_first=True),
    ],
    ids=["by hand", "torch's"],
)
def test_a_decoder_layer_as_the_model(layer: Callable[[], nn.Module]):
    found = found_in(layer, hidden_states(), hidden_states(M))
    assert found.by_component("macs") == parts_of_one(DECODER_MACS)
    assert found.by_component("parameters") == parts_of_one(DECODER_PARAMETERS)


def test_a_decoder_layer_as_the_model_is_one_unit():
    assert found_in(DecoderLayer, hidden_states(), hidden_states(M)).units() == {0}


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Block(Sizes()),
        lambda: Block(Sizes(pre=False, fused=False, sdpa=False)),
        Bare,
        lambda: nn.TransformerEncoderLayer(H, A, W, batch_first=True),
    ],
    ids=["pre-norm", "post-norm", "bare", "torch's"],
)
def test_one_unit_as_the_model(layer: Callable[[], nn.Module]):
    found = found_in(layer, hidden_states())
    assert found.by_component("macs") == parts_of_one({**ATTENTION_MACS, **FFN_MACS})
    parameters = {component: n for component, n in PARAMETERS.items() if component not in ("embedding", "head")}
    assert found.by_component("parameters") == {**parts_of_one(parameters), "add-norm": 4 * H}
    assert {unit for unit, _ in found.macs} == {0}


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, H, kernel_size=4, stride=4)
        self.cls, self.positions = nn.Parameter(torch.empty(1, 1, H)), nn.Parameter(torch.empty(1, S, H))
        self.blocks = nn.Sequential(*(Block(Sizes()) for _ in range(L)))
        self.norm, self.head = nn.LayerNorm(H), nn.Linear(H, C)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(len(x), -1, -1), x), dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def test_a_vision_transformer():
    found = found_in(Vision, torch.zeros(B, 3, 12, 12, device="meta"))
    # 12 × 12 dots are nine patches of 4 × 4 in three colours; a tenth token is the class.
    assert S == 9 + 1
    assert found.by_component("macs") == {**MACS, "embedding": B * 9 * 4 * 4 * 3 * H}
    assert found.by_component("parameters") == {**PARAMETERS, "embedding": 4 * 4 * 3 * H + H + H + S * H}
    assert found.units() == set(range(L))


# Other shapes of units ------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One unit, called three times, and the words again as the last linear."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.norm = nn.Embedding(V, H), Block(Sizes()), nn.LayerNorm(H)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for _ in range(L):
            x = self.block(x)
        return functional.linear(self.norm(x), self.words.weight)


def test_one_unit_called_three_times():
    found = found_in(Shared)
    assert found.by_component("macs") == {**MACS, "head": TOKENS * H * V}
    assert found.units() == set(range(L))
    inside = {component for unit, component in found.parameters if unit is None}
    assert inside >= {"attention-linear-in", "attention-linear-out", "ffn"}  # several units use them
    assert {unit for unit, _ in found.parameters} == {None}


def test_a_tied_table_stands_in_embedding():
    assert found_in(Shared).by_component("parameters")["embedding"] == V * H


class Parallel(nn.Module):
    """Attention and FFN read the same and are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention, self.ffn = nn.LayerNorm(H), Attention(), ffn()

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        return x + self.attention(normed) + self.ffn(normed)


class Biased(nn.Module):
    """Relative positions are looked up and added to the scores; products are einsums; attention stands in a method."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.qkv, self.out = nn.Embedding(8, A), nn.Linear(H, 3 * H), nn.Linear(H, H)
        self.norm1, self.norm2, self.ffn = nn.LayerNorm(H), nn.LayerNorm(H), ffn()

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(t) for t in self.qkv(x).chunk(3, dim=-1))
        places = torch.arange(x.shape[1], device=x.device)
        bias = self.bias((places[:, None] - places).clamp(-4, 3) + 4).permute(2, 0, 1)
        scores = (torch.einsum("bhid,bhjd->bhij", q, k) * (H / A) ** -0.5 + bias).softmax(dim=-1)
        return self.out(torch.einsum("bhij,bhjd->bihd", scores, v).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class StockAttention(nn.Module):
    """torch's attention in a unit by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(H, A, batch_first=True)
        self.norm1, self.norm2, self.up, self.down = nn.LayerNorm(H), nn.LayerNorm(H), nn.Linear(H, W), nn.Linear(W, H)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, normed)[0]
        return x + self.down(torch.tanh(self.up(self.norm2(x))))


class Computed(nn.Module):
    """Weights that are computed before they are used: put side by side, or scaled."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.q, self.k, self.v = (nn.Linear(H, H, bias=False) for _ in range(3))
        if not fused:
            self.scale = nn.Parameter(torch.ones(1))
        self.out, self.up, self.down = nn.Linear(H, H), nn.Linear(H, W), nn.Linear(W, H)
        self.norm1, self.norm2 = nn.LayerNorm(H), nn.LayerNorm(H)

    def forward(self, x: Tensor) -> Tensor:
        weights = [linear.weight for linear in (self.q, self.k, self.v)]
        if self.fused:
            parts = functional.linear(x, torch.cat(weights)).chunk(3, dim=-1)
        else:
            parts = [functional.linear(x, weight * self.scale) for weight in weights]
        q, k, v = (split_heads(part) for part in parts)
        x = self.norm1(x + self.out(join_heads(functional.scaled_dot_product_attention(q, k, v))))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


@pytest.mark.parametrize(
    "unit",
    [
        Parallel,
        Biased,
        StockAttention,
        pytest.param(lambda: Computed(True), id="weights side by side"),
        pytest.param(lambda: Computed(False), id="weights scaled"),
    ],
)
def test_units_of_other_makes(unit: Callable[[], nn.Module]):
    found = found_in(encoder_of(unit))
    assert found.by_component("macs") == MACS
    assert found.units() == set(range(L))
    parameters = found.by_component("parameters")
    assert parameters["ffn"] == PARAMETERS["ffn"]
    assert parameters["attention-linear-out"] == PARAMETERS["attention-linear-out"]
    assert parameters.get("softmax-attention", 0) == (L * 8 * A if unit is Biased else 0)


class Twice(nn.Module):
    """Two attentions, and no FFN anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(H, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x: Tensor) -> Tensor:
        parts = [[split_heads(t) for t in linear(x).chunk(3, dim=-1)] for linear in (self.one, self.two)]
        return x + sum(join_heads(functional.scaled_dot_product_attention(q, k, v)) for q, k, v in parts)


def test_two_attentions_in_one_module_and_no_ffn():
    found = found_in(lambda: nn.Sequential(Twice(), nn.Linear(H, C)), hidden_states())
    assert found.by_component("macs")["softmax-attention"] == 2 * 2 * TOKENS * S * H


# Without attention ----------------------------------------------------------------------------------------------------


def test_a_model_without_attention():
    make = lambda: nn.Sequential(nn.Linear(H, W), nn.ReLU(), nn.Linear(W, W), nn.ReLU(), nn.Linear(W, C))  # noqa: E731
    found = found_in(make, hidden_states())
    assert found.units() == set()
    assert found.by_component("macs") == {"ffn": TOKENS * (H * W + W * W + W * C)}
    assert found.by_component("parameters") == {"ffn": H * W + W + W * W + W + W * C + C}


class BiLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(V, H)
        self.lstm = nn.LSTM(H, W, num_layers=2, bidirectional=True, batch_first=True)
        self.classifier = nn.Sequential(nn.Linear(2 * W, H), nn.Tanh(), nn.Linear(H, C))

    def forward(self, ids: Tensor) -> Tensor:
        return self.classifier(self.lstm(self.words(ids))[0].amax(dim=1))


def test_a_recurrent_student_loses_nothing():
    found = found_in(BiLstm)
    parameters = found.by_component("parameters")
    # Four gates, two biases, two directions, two layers; the second reads both directions of the first.
    assert parameters["recurrent"] == 2 * 4 * W * (H + W + 2) + 2 * 4 * W * (2 * W + W + 2)
    assert parameters["embedding"] == V * H
    # Every matrix is multiplied once a token, in both layers and directions.
    layers = 2 * 4 * W * (H + W) + 2 * 4 * W * (2 * W + W)
    assert found.by_component("macs")["recurrent"] == TOKENS * layers
    assert found.counts.uncounted == {}


@pytest.mark.parametrize(("kind", "gates", "cell"), [(nn.LSTM, 4, 13), (nn.GRU, 3, 11), (nn.RNN, 1, 2)])
def test_recurrent_layers_count_as_their_cells(kind: Any, gates: int, cell: int):
    found = found_in(lambda: kind(H, W, batch_first=True), hidden_states())
    products = TOKENS * gates * W * (H + W)
    (operator,) = (o for operators in found.counts.operators.values() for o in operators.values() if o.macs)
    assert operator.macs == products
    assert operator.flops == 2 * products + TOKENS * (2 * gates * W + cell * W)
    if kind is nn.RNN:  # nothing of it is fused on a CPU: the products that it dispatches there are the same
        with torch.random.fork_rng():
            real = nn.RNN(H, W, batch_first=True)
        with FlopCounterMode(display=False) as counter:
            real(torch.zeros(*hidden_states().shape))
        assert counter.get_total_flops() // 2 == products


class TextCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(V, H)
        self.convolutions = nn.ModuleList(nn.Conv1d(H, W, size, padding=size // 2) for size in (3, 5))
        self.classifier = nn.Linear(2 * W, C)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids).transpose(1, 2)
        return self.classifier(torch.cat([functional.relu(conv(x)).amax(dim=-1) for conv in self.convolutions], dim=-1))


def test_a_convolutional_student_loses_nothing():
    found = found_in(TextCnn)
    assert found.by_component("parameters")["convolution"] == H * W * (3 + 5) + 2 * W
    assert found.by_component("parameters")["embedding"] == V * H
    assert found.by_component("macs")["convolution"] == TOKENS * H * W * (3 + 5)


@pytest.mark.parametrize(("student", "parameters"), [(BiLstm, 2 * W * H + H + H * C + C), (TextCnn, 2 * W * C + C)])
def test_the_classifier_of_a_student_without_attention_is_head(student: Callable[[], nn.Module], parameters: int):
    assert found_in(student).by_component("parameters")["head"] == parameters


# Any small encoder ----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.builds(
        Sizes,
        layers=st.integers(1, 4),
        heads=st.integers(1, 4),
        head=st.integers(1, 8),
        width=st.integers(1, 40),
        pre=st.booleans(),
        fused=st.booleans(),
        sdpa=st.booleans(),
        bias=st.booleans(),
    ),
    st.integers(1, 3),
    st.integers(1, P),
)
def test_any_small_encoder(sizes: Sizes, batch: int, length: int):
    hidden, tokens = sizes.heads * sizes.head, batch * length
    found = found_in(
        lambda: Encoder(*(Block(sizes) for _ in range(sizes.layers)), hidden=hidden),
        torch.zeros(batch, length, dtype=torch.long, device="meta"),
    )
    one = {
        "attention-linear-in": 3 * tokens * hidden**2,
        "softmax-attention": 2 * tokens * length * hidden,
        "attention-linear-out": tokens * hidden**2,
        "ffn": 2 * tokens * hidden * sizes.width,
    }
    units = {(unit, component): macs for unit in range(sizes.layers) for component, macs in one.items()}
    assert found.macs == {**units, (None, "head"): batch * hidden * C}
    one = {
        "attention-linear-in": 3 * (hidden**2 + sizes.bias * hidden),
        "attention-linear-out": hidden**2 + sizes.bias * hidden,
        "ffn": 2 * hidden * sizes.width + sizes.bias * (sizes.width + hidden),
        "add-norm": 4 * hidden,
    }
    units = {(unit, component): parameters for unit in range(sizes.layers) for component, parameters in one.items()}
    around = {"embedding": (V + P) * hidden, "add-norm": 2 * hidden, "head": hidden * C + C}
    assert found.parameters == {**units, **{(None, component): n for component, n in around.items()}}


# From outside ---------------------------------------------------------------------------------------------------------


def test_a_users_own_model_is_profiled_and_named_as_such(untouched: Any):
    with torch.random.fork_rng():
        model = untouched(encoder_of(lambda: Block(Sizes()))())
    breakdown = bertprof.profile(model, torch.zeros(B, S, dtype=torch.long), time=False)
    assert breakdown.total("macs") == sum(MACS.values())
    assert breakdown.total("parameters") == sum(PARAMETERS.values())
    assert "structural-anatomy" in {caveat.code for caveat in breakdown.caveats}


class GatedAttention(nn.Module):
    """Attention behind a gate of its own, low-rank linears, heads written one after the other into one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.gate = (nn.Linear(H, H) for _ in range(4))
        self.out_a, self.out_b = nn.Linear(H, 4, bias=False), nn.Linear(4, H, bias=False)
        self.up_a, self.up_b = nn.Linear(H, 4, bias=False), nn.Linear(4, W, bias=False)
        self.down = nn.Linear(W, H)
        self.norm1, self.norm2 = nn.LayerNorm(H), nn.LayerNorm(H)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(linear(x)) for linear in (self.q, self.k, self.v))
        joined = torch.empty_like(x)
        for head in range(A):
            part = slice(head * H // A, (head + 1) * H // A)
            scores = torch.softmax(q[:, head] @ k[:, head].transpose(-1, -2), -1)
            joined[..., part] = scores @ v[:, head]
        x = self.norm1(x + self.out_b(self.out_a(joined * torch.sigmoid(self.gate(x)))))
        return self.norm2(x + self.down(functional.gelu(self.up_b(self.up_a(x)))))


def test_a_gate_low_rank_linears_and_heads_one_by_one():
    found = found_in(encoder_of(GatedAttention))
    assert found.units() == set(range(L))
    macs = found.by_component("macs")
    assert macs["attention-linear-in"] == L * 3 * TOKENS * H * H
    assert macs["attention-linear-out"] == L * 2 * TOKENS * H * 4
    assert macs["ffn"] == L * TOKENS * (H * 4 + 4 * W + W * H)
    assert macs["softmax-attention"] == L * 2 * TOKENS * S * H
    assert macs["bottleneck"] == L * TOKENS * H * H  # the gate, which is none of the survey's parts
