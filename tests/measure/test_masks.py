"""Padding: a padded batch gives the real tokens the outputs that they have alone, and its useful MACs are theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

import bertprof
from bertprof.measure import build
from bertprof.measure.anatomy import FAMILIES as TABLES
from bertprof.measure.masks import padding_mask
from conftest import FAMILIES, tiny

# MobileBERT's embedding also looks at the next token, which for the last real one is padding.
EXACT = sorted(set(FAMILIES) - {"mobilebert"})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", EXACT)
def test_padding_is_hidden(family: str, attention: str):
    if attention == "sdpa" and not build.has_sdpa(transformers.AutoConfig.for_model(family), None):
        attention = "eager"
    model = tiny(family, attention)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():  # larger than usual, so that what is not hidden would show
            parameter.normal_(0, 0.3)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 99, (2, 14), generator=generator)
    mask, kind = padding_mask(model.config, 2, 14, 9, torch.float32)
    assert kind == ("2d" if family in ("deberta", "deberta-v2", "xlnet") else "4d")
    with torch.inference_mode():
        padded, alone = model(ids, attention_mask=mask)[0][:, :9], model(ids[:, :9])[0]
        unmasked = model(ids)[0][:, :9]
    assert torch.allclose(padded, alone, atol=1e-5)
    if family != "gpt2":  # which never looks ahead
        assert not torch.allclose(unmasked, alone, atol=1e-3)


def test_every_family_is_tested():
    students = {family for family in TABLES if family.startswith("bertprof-")}  # see test_students_backbones
    assert set(EXACT) | {"mobilebert"} == set(TABLES) - students


@pytest.mark.parametrize("family", FAMILIES)
def test_useful_macs_are_those_of_the_real_tokens(family: str, folder: Callable[..., Path]):
    path = folder(family)
    whole = bertprof.breakdown(path, time=False, batch_size=2, sequence_length=20, padding=0.3)
    real = bertprof.breakdown(path, time=False, batch_size=2, sequence_length=14)
    assert whole.workload.padding == pytest.approx(0.3)
    assert whole.workload.mask != "none"
    assert whole.total("macs") == bertprof.breakdown(path, time=False, batch_size=2, sequence_length=20).total("macs")
    assert {(c.unit, c.component): c.useful_macs for c in whole.costs if c.macs} == {
        (c.unit, c.component): c.macs for c in real.costs if c.macs
    }
    assert real.total("useful_macs") == real.total("macs")


def test_a_live_batch_of_several_lengths():
    model = tiny("bert")
    ids = torch.ones(3, 10, dtype=torch.long)
    mask = torch.ones(3, 10, dtype=torch.long)
    mask[0, 7:] = 0
    mask[1, 4:] = 0
    found = bertprof.profile(model, {"input_ids": ids, "attention_mask": mask}, time=False)
    lengths = [7, 4, 10]
    hidden, ffn = 32, 64
    linear = 3 * sum(lengths) * (4 * hidden * hidden + 2 * hidden * ffn)  # three units
    attention = 3 * sum(2 * n * n * hidden for n in lengths)
    pooler = 3 * hidden * hidden
    assert found.total("useful_macs") == linear + attention + pooler
    assert found.workload.padding == pytest.approx(9 / 30)
    positions = {"input_ids": ids, "attention_mask": mask, "position_ids": torch.arange(10)[None]}
    assert bertprof.profile(model, positions, time=False).total("useful_macs") is None  # cut to length it would not be
