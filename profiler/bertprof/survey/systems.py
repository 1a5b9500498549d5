"""The rows of the survey's Table 2 as data: what is printed, which system it is and how sure that is, what we run.

Printed figures are those of version 1 of the survey; `Later` holds those of its later edition. What papers are said to
state is from the papers themselves.
"""

from typing import Annotated, NamedTuple

import msgspec

from bertprof.survey.later import LATER, Later, Percent, Points, Sure, Times

BASELINE = "bert-base-uncased"
"""What sizes and speeds are relative to."""


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is printed; null where a dash stands.

    Attributes:
        size: model size in % of BERT-base's.
        speedup: latency of BERT-base over that of the model.
        mnli, qqp_accuracy, qqp_f1, sst2, squad_f1: accuracies and F1 in points, the survey's, never ours.
        size_per_accuracy: ΔMS/ΔA, points of size saved for each point of accuracy lost on MNLI.
        averaged: a star says that it is the average over tasks.
    """

    size: Percent
    speedup: Times | None = None
    mnli: Points | None = None
    qqp_accuracy: Points | None = None
    qqp_f1: Points | None = None
    sst2: Points | None = None
    squad_f1: Points | None = None
    size_per_accuracy: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] | None = None
    averaged: bool = False


class System(NamedTuple):
    """One row.

    Attributes:
        label: as printed.
        name: of the system, in a few letters.
        paper: where it is from.
        sure: how sure the identification is.
        known_by: by what it is identified.
        printed: what the row says.
        printed_size: the arithmetic that gives the printed size.
        model: what we run for it, a model with recipes; None: nothing, for the reason in `why_not`.
        settings: what is asked of that model alone, as KEY=VALUE.
        pruned: the printed size is 1 − this share of all but BERT-base's embedding, not a ratio of sizes.
        why_not: why nothing runs.
        segments: of what lengths the sequences are made, of the model and of BERT-base beside it; None: as elsewhere.
        uncached: where `model` computes a segment beforehand, the same model without that, which runs as well.
        later: what the later edition prints of it, in the first of its rows.
        notes: what a reader must know: misprints, what could not be reproduced, where figures come from.
    """

    label: str
    name: str
    paper: str
    sure: Sure
    known_by: str
    printed: Printed
    printed_size: str
    model: str | None = None
    settings: tuple[str, ...] = ()
    pruned: float | None = None
    why_not: str | None = None
    segments: tuple[int, ...] | None = None
    uncached: str | None = None
    later: Later | None = None
    notes: tuple[str, ...] = ()


_RPP = "Guo et al. 2019, arXiv 1909.12486"
_ZHAO = "Zhao et al. 2019, arXiv 1909.11687"
_ZHAO_SIZE = "1 / 61.94, as published: 1.78M of 110.1M parameters = 1.6 %"
_ZHAO_OPEN = (
    "1.78M parameters by what is published; a plain BERT of these sizes (48 wide, vocabulary of 4,928; 12 units and an "
    "FFN of 192 as we read it) has 0.60M, 0.55 %: where the other 1.2M are was not found."
)

NOTES: tuple[str, ...] = (
    "Accuracies are those that the survey prints; nothing here is trained.",
    "BERT-base's MNLI, QQP and SST-2 are of GLUE's test set, those of Q8BERT, RPP, DistilBERT, DeFormer and ALBERT of "
    "its development set: they do not compare.",
    "Printed sizes divide by 109M (DistilBERT, MobileBERT, TinyBERT), 108M (ALBERT) or 110.1M parameters (Zhao), or by "
    "415.4 MiB (Q-BERT); ours all by BERT-base as it is measured here.",
    "Printed speed-ups are of the papers' own machines: a Xeon (DistilBERT), a K80 (TinyBERT), a phone (MobileBERT).",
    "* as printed: an average over tasks.",
    "later edition: Table 1 of the survey in TACL 2021, doi 10.1162/tacl_a_00413. Its speeds are of a V100 (Liu, "
    "DeFormer), a K80 (TinyBERT) or, likely, its authors' Titan X and Xeon E5-1620: which machine is not said row by "
    "row. Of its rows below the tenth (here from DistilBERT on) figures are likely, not surely, those of the system.",
)
"""What holds for the table as a whole."""

SYSTEMS: tuple[System, ...] = (
    System(
        "BERT-base",
        "BERT-base",
        "Devlin et al. 2019, arXiv 1810.04805",
        "sure",
        "what every row is relative to",
        Printed(size=100, speedup=1, mnli=84.6, qqp_accuracy=89.2, qqp_f1=71.2, sst2=93.5, squad_f1=88.5),
        "by definition",
        BASELINE,
    ),
    System(
        "DQ",
        "Q8BERT",
        "Zafrir et al. 2019, arXiv 1910.06188",
        "sure",
        "QQP 87.96 and SST-2 92.24 are in its column of quantisation-aware training",
        Printed(size=25, speedup=4, qqp_accuracy=87.9, sst2=92.2, squad_f1=88.5),
        "8 / 32 bits = 25 %",
        f"{BASELINE}+int8,embedding=8",
        notes=(
            "SQuAD 88.5 is the model before quantisation (88.46); the 8-bit one has 87.74.",
            "QQP 87.96 is an F1 of the development set, printed where the accuracy stands.",
            "The paper measures no speed-up: 4x is the ratio of the sizes.",
        ),
    ),
    System(
        "DQ",
        "Q-BERT",
        "Shen et al. 2020, arXiv 1909.05840",
        "likely",
        "MNLI 81.75, SST-2 92.08 and SQuAD 86.95 are its mix of 2 and 3 bits with 8-bit embeddings",
        Printed(size=11.5, mnli=81.7, sst2=92.1, squad_f1=87.0, size_per_accuracy=30.52),
        "48.1 / 415.4 MiB = 11.6 % (SST-2, SQuAD), 46.1 / 415.4 MiB = 11.1 % (MNLI); mean of the three tasks 11.4 %",
        f"{BASELINE}+bits=3/3/3/3/3/3/2/2/2/2/2/2,embedding=8",
        later=LATER["Q-BERT"],
        notes=(
            "Run here: the mix of its SST-2 and SQuAD models, 6 units of 3 bits and 6 of 2; which units are which does "
            "not matter for the size.",
            "11.5 % is no average that we could make of the published sizes.",
            "The 415.4 MiB are BERT-base without its pooler; ours has it, at 8 bits, and a scale and zero point for "
            "each of 128 groups a matrix.",
        ),
    ),
    System(
        "PR",
        "RPP 59.3 %",
        _RPP,
        "likely",
        "accuracies of BERT-large with 59.3 % of its weights pruned",
        Printed(size=53.6, mnli=86.1, qqp_accuracy=91.2, sst2=92.4, squad_f1=90.2),
        "1 − 0.593 × (1 − 21.8 %, the embedding's share of BERT-base) = 53.6 %",
        "bert-large-uncased+sparsity=0.593",
        pruned=0.593,
        later=LATER["RPP"],
        notes=(
            "The accuracies are of a pruned BERT-large, the size is that of a BERT-base pruned as much: against the "
            "survey's own rule that all is relative to BERT-base.",
            "The later edition prints a pruned BERT-base in the place of both rows; its 67.6 % is the rule with an "
            "embedding of 21.7 %, as of 110M parameters.",
        ),
    ),
    System(
        "PR",
        "RPP 88.4 %",
        _RPP,
        "likely",
        "accuracies of BERT-large with 88.4 % of its weights pruned",
        Printed(size=30.9, mnli=81.4, qqp_accuracy=89.2, sst2=90.5, squad_f1=81.7, size_per_accuracy=21.59),
        "1 − 0.884 × (1 − 21.8 %, the embedding's share of BERT-base) = 30.9 %",
        "bert-large-uncased+sparsity=0.884",
        pruned=0.884,
        notes=("As in the row above: accuracies of BERT-large, size by BERT-base's embedding.",),
    ),
    System(
        "KD-OL",
        "Liu BiLSTM",
        "Liu et al. 2019, arXiv 1911.03588",
        "sure",
        "MNLI 78.6, QQP 88.6 and SST-2 91.0 stand beside its name in the survey's later edition",
        Printed(
            size=11.7, mnli=78.6, qqp_accuracy=88.6, qqp_f1=70.7, sst2=91.0, size_per_accuracy=14.72
        ),
        "not reproduced; 12.8M of 109.5M parameters would be 11.7 %",
        f"{BASELINE}+student=liu-bilstm",
        later=LATER["Liu"],
        notes=(
            "Its widths are not published: run here are ours, 300 in each direction and additive attention, which give "
            "11.2 MiB beside 89.4 MiB of words 768 wide, where the later edition tells of 11 MB and 90 MB.",
            "11.7 % was not reproduced; of the later edition's figures 24.1 % was, and 3.3 % are 11 of BERT-base's "
            "326.7 MiB without its embedding (3.37 %, cut off), ours 2.93M of 85.6M parameters = 3.4 %.",
        ),
    ),
    System(
        "KD-OL",
        "Wu BiLSTM?",
        "probably Wu et al. 2019, later arXiv 2004.03097",
        "guess",
        "by elimination: neither Tang 2019 (SST-2 90.7) nor AdaBERT (MNLI 81.6) fits",
        Printed(
            size=4.4,
            speedup=17.7,
            mnli=72.6,
            qqp_accuracy=86.2,
            qqp_f1=64.4,
            sst2=89.8,
            size_per_accuracy=7.96,
        ),
        "not reproduced; 4.8M of 109.5M parameters would be 4.4 %",
        why_not="neither which student nor its widths are known",
        notes=(
            "The row names no paper. Of those that the survey cites for students so small, Wu et al. 2019 and Tang et "
            "al. 2019a are the two whose figures could not be checked.",
            "arXiv 2004.03097, by a Wu, distils BERT into an LSTM (BiLSTM-SRA): its widths, sizes and scores could not "
            "be read. Of a version of it (LTD-BERT) the press has 22 MB and 80x, which is not this row either.",
            "4.4 % leaves the widths open: a table of BERT-base's words 157 wide is 4.8M parameters by itself, and "
            "whether the table is counted is not said. A guess is not run among what is known.",
        ),
    ),
    System(
        "KD-EO+OL",
        "DistilBERT",
        "Sanh et al. 2019, arXiv 1910.01108",
        "sure",
        "66M parameters, 668 s against 410 s, and SQuAD 86.9 are its own figures",
        Printed(size=60.5, speedup=1.63, qqp_accuracy=89.2, sst2=92.7, squad_f1=86.9),
        "66M / 109M parameters = 60.6 %",
        f"{BASELINE}+student=distilbert-base-uncased",
        later=LATER["DistilBERT"],
        notes=(
            "QQP 89.2 and SST-2 92.7 are from before January 2020, when the authors mended an error of their "
            "evaluation: 88.5 and 91.3 since.",
            "MNLI is left blank, though the paper has it (81.8, later 82.2).",
            "1.63x is 668 s / 410 s on a Xeon E5-2690 v3, sentences one by one (likely).",
            "The later edition's 50 % without the embedding is 6 of 12 units; BERT-base has a pooler besides, of which "
            "there is none here: 42.5M of 85.6M parameters.",
        ),
    ),
    System(
        "KD-EO+OL",
        "Zhao",
        _ZHAO,
        "likely",
        "62 times smaller, 48 wide, MNLI 71.0 and SST-2 82.8",
        Printed(size=1.6, mnli=71.0, sst2=82.8, size_per_accuracy=7.23),
        _ZHAO_SIZE,
        f"{BASELINE}+student=zhao-48",
        later=LATER["Zhao"],
        notes=(
            _ZHAO_OPEN,
            "The later edition's 1.8 % without the embedding would be 1.54M parameters of units: not reproduced.",
            "Printed twice: the same figures stand in the last row of AIC.",
        ),
    ),
    System(
        "KD-EO+AM",
        "MobileBERT",
        "Sun et al. 2020, arXiv 2004.02984",
        "sure",
        "MNLI 84.3, QQP 70.5 and SST-2 92.6 are its model without operational optimisations",
        Printed(
            size=23.2,
            speedup=2.36,
            mnli=84.3,
            qqp_accuracy=88.3,
            qqp_f1=70.5,
            sst2=92.6,
            squad_f1=90.2,
            size_per_accuracy=256,
        ),
        "25.3M / 109M parameters = 23.2 %",
        f"{BASELINE}+student=mobilebert-uncased",
        ("set.normalization_type=layer_norm", "set.hidden_act=gelu"),
        later=LATER["MobileBERT"],
        notes=(
            "25.3M are published, the model has 24.84M: the transform and bias of its masked-LM head (0.29M) can be "
            "counted in, the other 0.16M were not found.",
            "Run here with LayerNorm and GELU, as the model whose accuracies are printed; released is the one with "
            "NoNorm and ReLU, of the same size.",
            "2.36x does not follow from the published latencies on a Pixel 4: 342 / 192 ms = 1.78 with LayerNorm and "
            "GELU, 342 / 62 ms = 5.5 as released.",
            "The later edition's accuracies are of the released model, its speeds then likely too; its sizes are those "
            "of the published 25.3M: 25.3M / 109.5M = 23.1 %, without the tables "
            "(25.3M − 4.17M) / (109M − 23.8M) = 24.8 %.",
        ),
    ),
    System(
        "KD-EO+OL+AM",
        "TinyBERT4",
        "Jiao et al. 2019, arXiv 1909.10351",
        "sure",
        "14.5M parameters, 9.4 times faster, MNLI 82.5",
        Printed(
            size=13.3,
            speedup=9.4,
            mnli=82.5,
            qqp_accuracy=89.2,
            qqp_f1=71.3,
            sst2=92.6,
            size_per_accuracy=41.28,
        ),
        "14.5M / 109M parameters = 13.3 %",
        f"{BASELINE}+student=TinyBERT_General_4L_312D",
        later=LATER["TinyBERT4"],
        notes=(
            "14.5M are published; the model has 14.35M, with the projection 312 → 768 of its training 14.59M.",
            "9.4x was measured on a K80.",
            "The later edition's 6.4 % without the embedding was not reproduced: 14.35M − 9.68M = 4.67M of 85.6M "
            "parameters are 5.4 %, 14.5M − 9.52M (words alone) 5.8 %.",
        ),
    ),
    System(
        "AIC",
        "DeFormer",
        "Cao et al. 2020, arXiv 2005.00697",
        "sure",
        "MNLI 82.6, QQP 90.3 and SQuAD 87.1 with the lower 9 of 12 units decomposed",
        Printed(
            size=100,
            speedup=2.7,
            mnli=82.6,
            qqp_accuracy=90.3,
            squad_f1=87.1,
            size_per_accuracy=0,
            averaged=True,
        ),
        "attention has no weights: 100 %",
        f"{BASELINE}+decompose-attention=9+cache-segment=2",
        segments=(24, 296),
        uncached=f"{BASELINE}+decompose-attention=9",
        later=LATER["DeFormer"],
        notes=(
            "Cached and uncached are two methods: published speed-ups are with the passages encoded beforehand by the "
            "lower 9 units, which are then left out; decomposing alone saves at most 2 % of the MACs.",
            "Question and passage of 24 + 296 tokens are our choice; that factor of MACs is 3.51 at 16 + 304, 2.72 at "
            "64 + 320. What it takes to store and fetch the encoded passages is in none of the figures.",
            "2.7x was not reproduced: the paper has (likely) 3.2x on SQuAD, 1.9x on MNLI, 2.0x on QQP, 3.5x on BoolQ "
            "and 3.4x on RACE, of which the first three average 2.4x, all five 2.8x.",
            "The later edition prints 3.14x and 3.55x for the same work.",
        ),
    ),
    System(
        "AIC",
        "ALBERT",
        "Lan et al. 2019, arXiv 1909.11942",
        "sure",
        "SQuAD 89.3, MNLI 81.6 and SST-2 90.3 are those of ALBERT-base, version 1",
        Printed(size=11.1, mnli=81.6, sst2=90.3, squad_f1=89.3, size_per_accuracy=44.45),
        "12M / 108M parameters = 11.1 %",
        f"{BASELINE}+student=albert-base-v2",
        later=LATER["ALBERT"],
        notes=(
            "44.45 is 88.9 / 2.0, as if MNLI were 82.6, which is the row above.",
            "The accuracies are of version 1 of its weights; version 2, which runs here, is of the same architecture.",
            "The later edition's MNLI is near that of version 2 (84.6), its SST-2 and SQuAD are still those of version "
            "1; its 8.8 % without the embedding was not reproduced: 7.68M of 85.6M parameters are 9.0 %.",
        ),
    ),
    System(
        "AIC",
        "Zhao",
        _ZHAO,
        "sure",
        "the row of KD-EO+OL once more, for its smaller vocabulary",
        Printed(size=1.6, mnli=71.0, sst2=82.8, size_per_accuracy=7.23),
        _ZHAO_SIZE,
        f"{BASELINE}+student=zhao-48",
        notes=("As there: 1.78M parameters by what is published, 0.60M here; the later edition has it once.",),
    ),
)  # fmt: skip
"""The 14 rows, in the order in which they are printed."""
