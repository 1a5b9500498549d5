"""What the survey's later edition prints: figures as they stand there, and the arithmetic of other settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertprof.survey.later import LATER, Later, Setting
from bertprof.survey.systems import SYSTEMS

SHARE = (30_522 + 512 + 2) * 768 / 109_482_240
"""BERT-base's embedding, of all of its parameters."""


def test_the_rows_as_they_are_printed():
    # Table 1 of doi 10.1162/tacl_a_00413: size, size without embedding, GPU, CPU, MNLI, QQP, SST-2, SQuAD.
    def shown(later: Later) -> str:
        speeds = ("-" if x is None else f"{x:g}x" for x in (later.gpu_speedup, later.cpu_speedup))
        points = ("-" if x is None else f"{x:g}" for x in (later.mnli, later.qqp, later.sst2, later.squad_f1))
        return " ".join([f"{later.size:g}%", f"{later.size_without_embedding:g}%", *speeds, *points])

    assert {name: shown(later) for name, later in LATER.items()} == {
        "Q-BERT": "15% 12.5% 1x 1x 83.9 - 92.6 88.3",
        "RPP": "67.6% 58.7% 1x 1x - - - 88.5",
        "Liu": "24.1% 3.3% 10.7x 8.6x 78.6 88.6 91 -",
        "DistilBERT": "60.7% 50% 1.94x 1.73x 82.2 88.5 91.3 86.9",
        "Zhao": "1.6% 1.8% 25.5x 22.7x 71.3 - 82.2 -",
        "MobileBERT": "23.1% 24.8% 3.9x 4.7x 83.3 - 92.8 90",
        "TinyBERT4": "13.3% 6.4% 9.4x 9.3x 82.5 89.2 92.6 -",
        "DeFormer": "100% 100% 3.14x 3.55x 82.6 90.3 - 87.1",
        "ALBERT": "10.7% 8.8% 1.2x 1.2x 84.3 89.6 90.3 89.3",
    }
    # The first ten rows of that table were read as they stand, the others put together from columns of text.
    assert [name for name, later in LATER.items() if later.sure == "sure"] == ["Q-BERT", "RPP", "Liu"]


def test_each_stands_in_the_first_row_of_its_system():
    found = {each.name: each.later for each in SYSTEMS if each.later is not None}
    assert list(found.values()) == list(LATER.values())
    assert list(found) == [
        *("Q-BERT", "RPP 59.3 %", "Liu BiLSTM", "DistilBERT", "Zhao"),
        *("MobileBERT", "TinyBERT4", "DeFormer", "ALBERT"),
    ]
    assert [each.later is None for each in SYSTEMS if each.name == "Zhao"] == [False, True]


def test_sizes_at_other_settings():
    settings = {name: later.setting for name, later in LATER.items() if later.setting is not None}
    assert list(settings) == ["Q-BERT", "RPP"]
    # 8 of 32 bits in the embedding, 4 of 32 elsewhere: 0.25 · 21.77 % + 0.125 · 78.23 %.
    assert settings["Q-BERT"].percent(SHARE) == pytest.approx(15.22, abs=0.005)
    assert settings["Q-BERT"].percent_without_embedding == 12.5
    # 1 − 0.413 · 78.23 %; 67.6 is what an embedding of 21.7 % gives, as 23.8M of 110M parameters.
    assert settings["RPP"].percent(SHARE) == pytest.approx(67.69, abs=0.005)
    assert settings["RPP"].percent_without_embedding == pytest.approx(58.7)
    assert round(settings["RPP"].percent(23_835_648 / 110e6), 1) == 67.6


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_size_lies_between_what_is_left_of_its_parts(embedding: float, rest: float, share: float):
    percent = Setting(name="n", text="t", embedding=embedding, rest=rest).percent(share)
    assert 100 * min(embedding, rest) - 1e-9 <= percent <= 100 * max(embedding, rest) + 1e-9
