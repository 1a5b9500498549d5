"""The panels of memory, on records by hand."""

from bertprof import Component
from bertprof.observations import ENDLESS, Fit
from bertprof.record import Breakdown, Caveat
from bertprof.report import markdown, terminal
from bertprof.report.memory import THEORY, fits_panel, panel
from handmade import cost, made


def test_no_panel_where_nothing_is_known():
    assert panel(made(cost())) is None
    assert fits_panel(made(cost())) is None


def test_a_counted_model_has_a_sentence_and_no_table():
    found = panel(
        made(
            cost(Component.FFN, 0, parameter_bytes=400_000_000, activation_peak_bytes=4_326_400),
            cost(Component.HEAD, parameter_bytes=37_928_960, activation_peak_bytes=1_000),
        )
    )
    assert found is not None
    assert not found.rows
    assert found.notes == ["weights 437.9 MB; activations at most 4.326 MB in theory, in ffn"]


def test_on_a_cpu_what_is_resident_stands_beside():
    found = panel(
        made(cost(parameter_bytes=1000, activation_peak_bytes=500, time_ms=[1.0]), resident_peak_bytes=2_000_000)
    )
    assert found is not None
    assert found.notes == [
        "weights 1.000 kB; activations at most 500 B in theory, in ffn; together 2.000 MB resident as measured"
    ]
    (alone,) = panel(made(cost(), resident_peak_bytes=5_000)).notes  # type: ignore[union-attr]
    assert alone == "weights 0 B; together 5.000 kB resident as measured"


def test_on_a_gpu_components_have_the_largest_of_their_units():
    found = panel(
        made(
            cost(Component.FFN, 0, activation_peak_bytes=500, allocated_peak_bytes=7_000_000),
            cost(Component.FFN, 1, activation_peak_bytes=700, allocated_peak_bytes=6_000_000),
            cost(Component.EMBEDDING, activation_peak_bytes=20, allocated_peak_bytes=5_000_000),
            cost(Component.HEAD, activation_peak_bytes=30),
            peak_memory_bytes=7_000_000,
        )
    )
    assert found is not None
    assert found.headers == ("component", "activations in theory", "allocated")
    assert found.rows == [("embedding", "20 B", "5.000 MB"), ("ffn", "700 B", "7.000 MB")]
    assert found.notes[0].endswith("together 7.000 MB allocated as measured")
    assert "do not add" in found.notes[1]


def fit(mode: str = "inference", batch: int = 1, activations: int = 0, limit: int = 32_000_000_000) -> Fit:
    states = (6_230_444_800, None, None) if mode == "inference" else (3_115_222_400, 3_115_222_400, 18_691_334_400)
    return Fit(
        mode=mode,  # type: ignore[arg-type]
        batch_size=batch,
        parameter_bytes=states[0],
        gradient_bytes=states[1],
        optimizer_bytes=states[2],
        activation_bytes=activations,
        fits=sum(filter(None, states)) + activations <= limit,
    )


def fitted(*fits: Fit, limit: int = 32_000_000_000) -> Breakdown:
    return made(cost(), memory_limit_bytes=limit, fits=list(fits), workload={"sequence_length": 1024})


GPT2_XL = fitted(
    fit(activations=888_900_000), fit(batch=29, activations=25_600_000_000), fit("training", 1, 11 * 10**9)
)


def test_what_fits_is_answered_in_a_sentence():
    found = fits_panel(GPT2_XL)
    assert found is not None
    assert found.title == "What fits into 32.00 GB"
    assert list(found.rows) == [
        ("inference", "1", "6.230 GB", "–", "–", "888.9 MB", "7.119 GB", "yes"),
        ("inference", "29", "6.230 GB", "–", "–", "25.60 GB", "31.83 GB", "yes"),
        ("training", "1", "3.115 GB", "3.115 GB", "18.69 GB", "11.00 GB", "35.92 GB", "no"),
    ]
    assert found.notes[:2] == [
        "inference: up to 29 sequences of 1,024 tokens at a time.",
        "training: not even 1 sequence of 1,024 tokens: 24.92 GB of weights, gradients and optimiser states, and "
        "11.00 GB of activations.",
    ]
    assert "without activation checkpointing" in found.notes[2]
    assert "in float32 takes 6.230 GB more" in found.notes[2]
    assert found.notes[3] == THEORY


def test_states_that_do_not_fit_by_themselves_are_the_answer():
    found = fits_panel(fitted(fit(limit=10**9), fit("training", limit=10**9), limit=10**9))
    assert found is not None
    assert found.notes[:2] == [
        "inference: not even 1 sequence of 1,024 tokens: 6.230 GB of weights alone.",
        "training: not even 1 sequence of 1,024 tokens: 24.92 GB of weights, gradients and optimiser states alone.",
    ]


def test_one_sequence_is_no_plural_and_where_only_a_given_batch_is_known_it_is_named():
    one = fits_panel(fitted(fit(), fit(batch=7, activations=10**11)))
    assert one is not None
    assert one.notes == ["inference: up to 1 sequence of 1,024 tokens at a time.", THEORY]
    seven = fits_panel(fitted(fit(batch=7, activations=10**11)))
    assert seven is not None
    assert seven.notes[0].startswith(
        "inference: not even 7 sequences of 1,024 tokens: 6.230 GB of weights, and 100.0 GB"
    )


def test_where_the_batch_cannot_be_changed_no_largest_is_claimed():
    one = fitted(fit(batch=64))
    one.caveats.append(Caveat(code="fits-one-batch", text="why"))
    found = fits_panel(one)
    assert found is not None
    assert found.notes[0] == "inference: 64 sequences of 1,024 tokens fit; of no other batch it can be told."


def test_what_takes_no_memory_has_no_largest_batch():
    found = fits_panel(fitted(fit(batch=2 * ENDLESS - 1)))
    assert found is not None
    assert found.notes[0] == "inference: as many sequences as you like, since none takes memory."


def test_where_nothing_could_be_told_there_is_no_panel():
    assert fits_panel(fitted()) is None


def test_both_panels_fit_into_80_columns():
    text = terminal.render(GPT2_XL, width=80)
    assert "What fits into 32.00 GB" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    row = next(line for line in text.splitlines() if line.split()[:2] == ["training", "1"])
    assert row.split() == [
        "training",
        "1",
        "3.115",
        "GB",
        "3.115",
        "GB",
        "18.69",
        "GB",
        "11.00",
        "GB",
        "35.92",
        "GB",
        "no",
    ]


def test_markdown_has_them_as_tables():
    text = markdown.render(GPT2_XL)
    assert "| mode | batch | weights | gradients | optimiser | activations | total | fits |" in text
    assert "| training | 1 | 3.115 GB | 3.115 GB | 18.69 GB | 11.00 GB | 35.92 GB | no |" in text
