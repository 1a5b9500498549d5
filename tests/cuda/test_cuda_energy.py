"""Energy on a real GPU. What NVML is asked and how windows are cut is tested on a fake board in tests/measure."""

from typing import Any

import pytest
import torch
from torch import nn

import bertprof
from bertprof.components import Component
from bertprof.measure import host
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import clock_for
from bertprof.measure.graphs import Cuda
from bertprof.measure.inputs import Inputs
from bertprof.measure.power import meter, replay
from bertprof.measure.timing import Marked
from bertprof.sampling import median
from conftest import tiny


def has_a_counter() -> bool:
    if not torch.cuda.is_available():
        return False
    with host.nvml(torch.device("cuda:0")) as gpu:
        return gpu.ask("TotalEnergyConsumption") is not None and not gpu.partitioned


pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
    pytest.mark.skipif(not has_a_counter(), reason="NVML has no energy counter here"),
]


@pytest.fixture(scope="module")
def bert_base() -> bertprof.Breakdown:
    """BERT-base on 32 × 128 tokens, whose pieces take longer than their launches; takes two to three minutes."""
    found = bertprof.breakdown("bert-base-uncased", device="cuda", batch_size=32, energy=True, clocks="graph")
    assert found.energy is not None
    if found.energy.unavailable is not None:
        pytest.skip(found.energy.unavailable)  # another process, or heat
    return found


def of_component(breakdown: bertprof.Breakdown, component: Component) -> float:
    return sum(median(cost.energy_mj) for cost in breakdown.of(component) if cost.energy_mj)


def test_the_components_sum_to_the_whole(bert_base: bertprof.Breakdown):
    energy = bert_base.energy
    assert energy is not None
    assert energy.total_mj is not None
    assert len(energy.total_mj) == meter.TRIALS
    assert {len(cost.energy_mj or []) for cost in bert_base.costs} == {meter.TRIALS}
    if energy.method == "busy-share":
        pytest.skip(f"not replayed: {energy.reason}")
    rows = sum(of_component(bert_base, component) for component in Component)
    assert rows == pytest.approx(median(energy.total_mj), rel=0.1)


def test_the_counter_steps_as_it_is_said_to(bert_base: bertprof.Breakdown):
    assert bert_base.energy is not None
    assert bert_base.energy.counter_period_ms is not None
    assert 1 <= bert_base.energy.counter_period_ms <= 500


def test_the_power_is_one_that_the_board_can_have(bert_base: bertprof.Breakdown):
    with host.nvml(torch.device("cuda:0")) as gpu:
        limit_mw = gpu.ask("EnforcedPowerLimit")
    energy = bert_base.energy
    assert energy is not None
    assert energy.total_power_mw is not None
    of_parts = list((energy.power_mw or {}).values())
    assert len(of_parts) == (len({cost.component for cost in bert_base.costs}) if energy.method == "replay" else 0)
    for power_mw in (*of_parts, energy.total_power_mw, energy.eager_power_mw or energy.total_power_mw):
        assert 10_000 < power_mw < 1.1 * limit_mw  # no board of this kind idles at less


def test_the_whole_as_it_runs_draws_no_less_than_replayed(bert_base: bertprof.Breakdown):
    energy = bert_base.energy
    assert energy is not None
    if energy.eager_mj is None:
        pytest.skip("not replayed")
    assert energy.total_mj is not None
    assert median(energy.eager_mj) > 0.9 * median(energy.total_mj)


def test_most_is_drawn_where_most_is_computed(bert_base: bertprof.Breakdown):
    # 65 % of the MACs and 3 %.
    assert of_component(bert_base, Component.FFN) > 2 * of_component(bert_base, Component.SOFTMAX_ATTENTION)


def test_the_state_of_the_gpu_is_in_the_record(bert_base: bertprof.Breakdown):
    for state in (bert_base.host.gpu_before, bert_base.host.gpu_after):
        assert state is not None
        assert state.power_mw
        assert state.sm_mhz
        assert state.temperature_c
        assert "gpu_idle" not in (state.throttle_reasons or [])


def test_a_larger_model_draws_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(meter, "TRIALS", 1)
    drawn = []
    for units in (2, 8):
        one = bertprof.breakdown(
            "bert-base-uncased",
            overrides={"num_hidden_layers": units},
            device="cuda",
            batch_size=32,
            min_time_s=0,
            energy=True,
        )
        assert one.energy is not None
        if one.energy.total_mj is None:
            pytest.skip(str(one.energy.unavailable))
        drawn.append(one.energy.total_mj[0])
    assert 2 < drawn[1] / drawn[0] < 6  # four times the units; the embedding is once in each


# Pieces ---------------------------------------------------------------------------------------------------------------


def test_pieces_compute_what_the_model_does_and_do_so_again_by_themselves():
    model = tiny("bert").cuda().eval()
    device = next(model.parameters()).device
    ids = torch.arange(16, device=device).view(2, 8)
    kept: list[torch.Tensor] = []
    handle = model.register_forward_hook(lambda module, args, output: kept.append(output.pooler_output))
    subject = Marked(model, Inputs((ids,)), regions_of(model), clock_for(device))
    try:
        with torch.inference_mode(), replay.captured(subject, Cuda(device)) as (whole, pieces):
            of_whole, of_pieces = kept[-2:]
            expected = model(ids).pooler_output.clone()
            for graph in (whole, *(piece.graph for piece in pieces)):
                graph.replay()
            torch.cuda.synchronize()
            torch.testing.assert_close(of_whole, expected)
            torch.testing.assert_close(of_pieces, expected)
            for component in dict.fromkeys(piece.component for piece in pieces):
                own = [piece.graph for piece in pieces if piece.component is component]
                for _ in range(100):
                    for graph in own:
                        graph.replay()
            # Nothing was overwritten: the head, alone, comes to the same from what the others left.
            of_pieces.zero_()
            for piece in pieces:
                if piece.component is Component.HEAD:
                    piece.graph.replay()
            torch.cuda.synchronize()
            torch.testing.assert_close(of_pieces, expected)
    finally:
        handle.remove()


def test_a_forward_that_waits_leaves_cuda_as_it_was():
    model = tiny("bert").cuda().eval()
    device = next(model.parameters()).device

    def waits(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        output.sum().item()

    handle = model.pooler.register_forward_hook(waits)
    subject = Marked(
        model, Inputs((torch.ones(1, 8, dtype=torch.long, device=device),)), regions_of(model), clock_for(device)
    )
    try:
        with (
            pytest.raises(Exception, match="synchroniz"),
            torch.inference_mode(),
            replay.captured(subject, Cuda(device)),
        ):
            pass
    finally:
        handle.remove()
    torch.cuda.empty_cache()
    assert torch.rand(2, device=device).shape == (2,)
