"""Live modules of any making, in a measurement from end to end."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bertprof
from conftest import codes_of, tiny


def encoder(layers: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


def test_torchs_own_encoder(untouched: Any):
    model = untouched(encoder())
    fast = torch.backends.mha.get_fastpath_enabled()
    found = bertprof.profile(model, torch.zeros(2, 10, 32), min_time_s=0)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    tokens = 2 * 10
    macs = {str(c): sum(cost.macs for cost in found.of(c)) for c in bertprof.Component if found.of(c)}
    assert macs["attention-linear-in"] == 3 * tokens * 32 * 96
    assert macs["softmax-attention"] == 3 * 2 * tokens * 10 * 32
    assert macs["attention-linear-out"] == 3 * tokens * 32 * 32
    assert macs["ffn"] == 3 * 2 * tokens * 32 * 64
    parameters = {str(c): sum(cost.parameters for cost in found.of(c)) for c in bertprof.Component}
    assert {component: number for component, number in parameters.items() if number} == {
        "attention-linear-in": 3 * (32 * 96 + 96),
        "attention-linear-out": 3 * (32 * 32 + 32),
        "ffn": 3 * (32 * 64 + 64 + 64 * 32 + 32),
        "add-norm": 3 * 2 * 64,
    }
    assert found.units == 3
    assert codes_of(found)[:4] == ["structural-anatomy", "time-not-split", "counted-by-dispatch", "fast-path-off"]
    caveat = next(c for c in found.caveats if c.code == "fast-path-off")
    assert caveat.value is not None
    assert caveat.value > 0
    for cost in found.costs:
        if str(cost.component) in ("attention-linear-in", "attention-linear-out"):
            assert cost.time_ms is not None
            assert not any(cost.time_ms)  # it stands in softmax-attention


def test_what_is_not_recognised_is_named_with_what_it_holds():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(32))
            self.inner = encoder(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * self.scale

    model = Odd()
    plain = bertprof.profile(model, torch.zeros(1, 6, 32), time=False)
    mapped = bertprof.profile(model, torch.zeros(1, 6, 32), time=False, anatomy={"": "head", "nothing": "ffn"})
    assert sum(c.parameters for c in mapped.of(bertprof.Component.HEAD)) == 32
    caveat = next(c for c in mapped.caveats if c.code == "anatomy-unmatched")
    assert "'nothing' matches no module" in caveat.text
    assert plain.total("parameters") == mapped.total("parameters") == sum(p.numel() for p in model.parameters())


def test_a_pipeline_around_a_known_family():
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.auto_model = tiny("bert")

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            features["token_embeddings"] = self.auto_model(input_ids=features["input_ids"])[0]
            return features

    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(32, 16)

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            features["sentence_embedding"] = self.dense(features["token_embeddings"].mean(1))
            return features

    with torch.random.fork_rng():
        model = nn.Sequential(Transformer(), Pooling()).eval()
    features = {"input_ids": torch.ones(2, 8, dtype=torch.long)}
    found = bertprof.profile(model, features, min_time_s=0)
    assert set(features) == {"input_ids"}
    bare = bertprof.profile(tiny("bert"), torch.ones(2, 8, dtype=torch.long), time=False)
    of_head = [c for c in found.costs if str(c.component) == "head"]
    assert (
        sum(c.parameters for c in of_head) == sum(c.parameters for c in bare.of(bertprof.Component.HEAD)) + 32 * 16 + 16
    )
    assert found.total("macs") == bare.total("macs") + 2 * 32 * 16
    assert (found.workload.batch_size, found.workload.sequence_length) == (2, 8)
    assert "structural-anatomy" not in codes_of(found)


def test_decoding_with_a_cache_of_keys_and_values(untouched: Any):
    model = untouched(tiny("gpt2"))
    ids = torch.ones(1, 9, dtype=torch.long)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    found = bertprof.profile(model, {"input_ids": ids[:, :1], "past_key_values": cache}, min_time_s=0)
    assert cache.get_seq_length() == 9
    # one query on ten keys, in each of three units
    assert sum(c.macs for c in found.of(bertprof.Component.SOFTMAX_ATTENTION)) == 3 * 2 * 10 * 32
    alone = bertprof.profile(model, {"input_ids": ids, "use_cache": False}, time=False)
    kept = bertprof.profile(model, {"input_ids": ids, "use_cache": True}, time=False)
    assert alone.total("macs") == kept.total("macs")


def test_inputs_that_show_no_sequence():
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    found = bertprof.profile(model, torch.zeros(8), min_time_s=0)
    assert (found.workload.batch_size, found.workload.sequence_length) == (8, None)
    assert found.total("macs") == 8 * 4 + 4 * 2
    assert "batch 8" in str(found)


def test_two_of_one_class_and_different_shapes_have_two_digests():
    digests = {
        bertprof.profile(encoder(layers), torch.zeros(1, 4, 32), time=False).workload.config_sha256
        for layers in (1, 2, 2)
    }
    assert len(digests) == 2


def test_nan_in_the_outputs_is_a_caveat():
    model = encoder(1)
    with torch.no_grad():
        model.layers[0].norm2.weight[0] = float("nan")
    assert "non-finite-output" in codes_of(bertprof.profile(model, torch.zeros(1, 4, 32), min_time_s=0))


def test_a_forward_that_fails_is_one_line():
    with pytest.raises(bertprof.BertprofError, match="the forward of TransformerEncoder fails") as caught:
        bertprof.profile(encoder(1), torch.zeros(1, 4, 31), time=False)
    assert "\n" not in str(caught.value)


# What a forward, or a library, leaves behind --------------------------------------------------------------------------


class Lazy(nn.Module):
    """Makes a table at its first call, keeps a count, draws numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.table: Tensor | None = None
        self.calls = nn.Buffer(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.rand(4)
        self.calls += 1
        return self.linear(x) * self.table


def test_what_a_forward_leaves_in_the_model_is_taken_back():
    with torch.random.fork_rng():
        model = Lazy()
    bertprof.profile(model, torch.zeros(2, 4), min_time_s=0)
    assert model.table is None
    assert model.calls.item() == 0
    with torch.random.fork_rng():
        model(torch.zeros(2, 4)).sum().backward()  # nothing of inference mode is left in it


def test_a_layer_that_merges_its_weights_in_eval_mode_is_unmerged():
    class Merging(nn.Linear):
        merged = False

        def train(self, mode: bool = True) -> "Merging":
            super().train(mode)
            if self.merged == mode:
                self.weight.data += -1.0 if mode else 1.0
                self.merged = not mode
            return self

    with torch.random.fork_rng():
        model = nn.Sequential(Merging(4, 4)).train()
    before = model[0].weight.detach().clone()
    bertprof.profile(model, torch.zeros(2, 4), min_time_s=0)
    assert model[0].training
    assert not model[0].merged
    assert torch.allclose(model[0].weight, before)


def test_a_compiled_model_stays_compiled():
    graphs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(1)
        return graph.forward

    plain = encoder(1)
    model = torch.compile(plain, backend=backend)
    x = torch.zeros(1, 4, 32)
    with torch.no_grad():
        model(x)
    made = len(graphs)
    assert made > 0
    found = bertprof.profile(model, x, min_time_s=0)
    assert "compiled" in codes_of(found)
    torch.compiler.reset()
    with torch.no_grad():
        model(x)
    assert len(graphs) == 2 * made


def test_a_hook_that_does_work_is_counted():
    model = tiny("bert")
    with torch.random.fork_rng():
        extra = nn.Linear(32, 32)
    ids = torch.ones(1, 8, dtype=torch.long)
    before = bertprof.profile(model, ids, time=False).total("macs")
    model.encoder.layer[0].register_forward_hook(lambda module, args, output: extra(output))
    assert bertprof.profile(model, ids, time=False).total("macs") == before + 8 * 32 * 32


def test_a_scripted_and_a_parametrised_linear():
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
        model[0] = nn.utils.parametrizations.weight_norm(model[0])
    found = bertprof.profile(model, torch.zeros(2, 8), time=False)
    assert found.total("parameters") == sum(p.numel() for p in model.parameters())
    assert "quantised" not in codes_of(found)


def test_a_scripted_part_of_a_model():
    model = encoder(1)
    with torch.random.fork_rng():
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is on its way out
            head = torch.jit.script(nn.Linear(32, 4))
        whole = nn.Sequential(model, head).eval()
    found = bertprof.profile(whole, torch.zeros(1, 6, 32), min_time_s=0)
    assert found.total("parameters") == sum(p.numel() for p in whole.parameters())
    assert not any(module.training for module in whole.modules())


def test_an_id_beyond_the_vocabulary_is_one_line():
    with pytest.raises(bertprof.BertprofError, match="the forward of BertModel fails: IndexError"):
        bertprof.profile(tiny("bert"), torch.full((1, 8), 1000), min_time_s=0)
