"""What only a GPU can prove. The logic of the CUDA clock is tested on a fake device in tests/measure."""

import pytest
import torch

import bertprof
from bertprof.components import Component
from conftest import codes_of, tiny

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
]


@pytest.fixture(scope="module")
def bert_base() -> bertprof.Breakdown:
    return bertprof.breakdown("bert-base-uncased", device="cuda")


def test_bert_base_closes_in_every_repeat(bert_base: bertprof.Breakdown):
    assert bert_base.workload.clock == "events"
    assert bert_base.instrumented_ms is not None
    for i, total in enumerate(bert_base.instrumented_ms):
        assert sum(c.time_ms[i] for c in bert_base.costs if c.time_ms) == pytest.approx(total, abs=1e-9)
    assert bert_base.total("macs") == 11_174_215_680
    assert bert_base.host.gpu is not None
    assert bert_base.peak_memory_bytes is not None
    assert bert_base.peak_memory_bytes > bert_base.total("parameter_bytes")


def test_softmax_attention_is_dearer_than_in_theory(bert_base: bertprof.Breakdown):
    share = bert_base.time_share(bert_base.of(Component.SOFTMAX_ATTENTION))
    flops = sum(c.flops for c in bert_base.of(Component.SOFTMAX_ATTENTION)) / bert_base.total("flops")
    assert share is not None
    assert share.low > flops


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str):
    breakdown = bertprof.breakdown("bert-base-uncased", device="cuda", dtype=dtype, min_time_s=0)
    assert codes_of(breakdown) == []
    assert breakdown.total("parameter_bytes") == 2 * breakdown.total("parameters")


def test_a_live_model_stays_where_and_as_it_is():
    model = tiny("bert").cuda().train()
    breakdown = bertprof.profile(model, torch.ones(2, 8, dtype=torch.long, device="cuda"), min_time_s=0)
    assert breakdown.workload.device.startswith("cuda")
    assert model.training
    assert next(model.parameters()).is_cuda


def test_two_models_are_compared_on_the_gpu():
    ids = torch.ones(1, 8, dtype=torch.long, device="cuda")
    before, after = (tiny("bert", intermediate_size=size).cuda() for size in (64, 128))
    diff = bertprof.compare(before, after, ids, min_time_s=0.5)
    assert diff.times == "rounds"
    assert diff.before.workload.clock == diff.after.workload.clock == "events"
    assert diff.row("ffn").metrics["parameters"].change == 3 * (2 * 32 * 64 + 64)
    memory = diff.row("total").metrics["memory"]
    # Each side's own: the other's weights, which are on the device as well, are not in it.
    assert memory.before is not None
    assert memory.before < 10_000_000 + torch.cuda.memory_allocated()


def test_the_yardstick_runs_on_the_gpu(bert_base: bertprof.Breakdown):
    assert bert_base.yardstick_ms is not None
    assert bert_base.end_to_end_ms is not None
    assert {len(samples) for samples in bert_base.yardstick_ms.values()} == {len(bert_base.end_to_end_ms)}
