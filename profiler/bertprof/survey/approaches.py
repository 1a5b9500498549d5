"""The methods of the survey's Sections 3.1 to 3.4 as data: which columns of Table 1 they stand in, and what we run.

Ganesh et al. 2020, arXiv 2002.11985v1. Table 2 has some of them too (`bertprof.survey.systems`), at the settings whose
accuracies it prints; here each is run at the setting that shows what it does to BERT-base.
"""

from typing import NamedTuple

import msgspec

from bertprof.survey.later import LATER, Later, Sure
from bertprof.survey.systems import BASELINE


class Approach(NamedTuple):
    """One method.

    Attributes:
        name: in a few letters.
        paper: where it is from.
        section: of the survey, in which it stands.
        columns: of Table 1, those of `bertprof.compress.methods.COLUMNS` to which it belongs.
        sure: how sure it is that what runs here is what was published.
        runs: what runs here, and what of it is our choice.
        model: a model with recipes; None: nothing, for the reason in `why_not`.
        published: size and speed as published.
        settings: what is asked of that model alone, as KEY=VALUE.
        segments: of what lengths the sequences are made, of the model and of BERT-base beside it; None: as elsewhere.
        apart: why what it changes is not set against the printed marks; None: it is.
        why_not: why nothing runs.
        later: what the survey's later edition prints of it.
        notes: what a reader must know: misprints, what could not be reproduced.
    """

    name: str
    paper: str
    section: str
    columns: tuple[str, ...]
    sure: Sure
    runs: str
    model: str | None
    published: str
    settings: tuple[str, ...] = ()
    segments: tuple[int, ...] | None = None
    apart: str | None = None
    why_not: str | None = None
    later: Later | None = None
    notes: tuple[str, ...] = ()


PAIR = (24, 296)
"""A question and a passage, in tokens: a length of SQuAD (Cao et al. 2020), 320 together."""

_ALBERT = "Lan et al. 2019, arXiv 1909.11942"
_ZHAO = "Zhao et al. 2019, arXiv 1909.11687"
_DEFORMER = "Cao et al. 2020, arXiv 2005.00697"

BASE = Approach(
    "BERT-base",
    "Devlin et al. 2019, arXiv 1810.04805",
    "2",
    (),
    "sure",
    "what every method is relative to",
    BASELINE,
    "109.5M parameters with the pooler",
)
"""What everything is relative to."""

APPROACHES: tuple[Approach, ...] = (
    Approach(
        "Q8BERT",
        "Zafrir et al. 2019, arXiv 1910.06188",
        "3.1",
        ("DQ",),
        "sure",
        "8-bit linears run by integer kernels, activations quantised as they come, and 8-bit embeddings",
        f"{BASELINE}+int8,embedding=8",
        "4 times smaller; no speed measured",
        notes=("Its released code trains with imitated integers, which are slower; the kernels here are torch's.",),
    ),
    Approach(
        "Q-BERT",
        "Shen et al. 2020, arXiv 1909.05840",
        "3.1",
        ("DQ",),
        "likely",
        "6 units of 3 bits and 6 of 2, groups of 128, 8-bit embeddings; which units are which does not matter here",
        f"{BASELINE}+bits=3/3/3/3/3/3/2/2/2/2/2/2,embedding=8",
        "48.1 of 415.4 MiB (SST-2, SQuAD); no speed measured",
        notes=("The later edition prints its 4-bit model: 15 %, without embeddings 12.5 %, speed 1x.",),
    ),
    Approach(
        "Gordon",
        "Gordon et al. 2020, arXiv 2002.08307",
        "3.2",
        ("PR-EP",),
        "sure",
        "40 % of each matrix and of the embedding tables is zero, the highest level without loss; bitmap storage is "
        "our choice, in which zeros save bytes, and execution is dense",
        f"{BASELINE}+sparsity=0.4,embedding=yes,storage=bitmap",
        "30 to 40 % of zeros lose nothing; no size and no speed",
        notes=("Of the embedding the paper prunes the words; here positions and segments as well, 1.7 % of it.",),
    ),
    Approach(
        "RPP",
        "Guo et al. 2019, arXiv 1909.12486",
        "3.2",
        ("PR-EP",),
        "likely",
        "41.2 % of each matrix outside of the embedding is zero: its point on BERT-base that loses nothing on SQuAD; "
        "bitmap storage is our choice, and execution is dense",
        f"{BASELINE}+sparsity=0.412,storage=bitmap",
        "41.2 % pruned on BERT-base; no speed",
        later=msgspec.structs.replace(LATER["RPP"], setting=None),  # which is what runs here
        notes=(
            "Table 2 has other points of it, of BERT-large.",
            "The later edition's sizes count what is not zero; a bitmap adds one bit a weight.",
        ),
    ),
    Approach(
        "Michel",
        "Michel et al. 2019, arXiv 1905.10650",
        "3.2",
        ("PR-SP",),
        "sure",
        "6 of 12 heads in each unit: half, the level that the paper times",
        f"{BASELINE}+heads=6",
        "with half of the heads 1.9 % more examples a second at batch 1, 17.5 % at batch 16 (GTX 1080 Ti)",
        notes=(
            "The survey's '1-2 heads, though the original model has 16' is of the paper's translation model: "
            "BERT-base has 12.",
        ),
    ),
    Approach(
        "Raganato",
        "Raganato et al. 2020, arXiv 2002.10260",
        "3.2",
        ("PR-SP",),
        "likely",
        "the paper's seven patterns in 7 of 12 heads of each unit, without query and key; 5 heads stay learned",
        f"{BASELINE}+fixed-attention=7",
        "no speed and no size",
        notes=(
            "The paper's model translates: 6 units of 8 heads, of which 7 are fixed. Fixing 7 of BERT-base's 12 is our "
            "choice. The survey cites it only.",
        ),
    ),
    Approach(
        "LayerDrop",
        "Fan et al. 2019, arXiv 1909.11556",
        "3.2",
        ("PR-SP",),
        "sure",
        "every other of the 12 units",
        f"{BASELINE}+layers=6",
        "RoBERTa of 12 units cut to 6: 124.6M parameters to 82.1M; no speed",
        notes=("The paper cuts RoBERTa; the units are of the same size.",),
    ),
    Approach(
        "BERT-PKD",
        "Sun et al. 2019, arXiv 1908.09355",
        "3.3",
        ("KD-EO", "KD-OL"),
        "sure",
        "its student of 6 units",
        f"{BASELINE}+student=bert-pkd-6",
        "67.0M parameters, 1.64 times fewer; 1.94 times faster on a GPU at batch 128 (likely)",
    ),
    Approach(
        "DistilBERT",
        "Sanh et al. 2019, arXiv 1910.01108",
        "3.3",
        ("KD-EO", "KD-OL"),
        "sure",
        "the released model",
        f"{BASELINE}+student=distilbert-base-uncased",
        "66M parameters; 668 s to 410 s, 1.63 times faster on a Xeon E5-2690 v3, sentences one by one (likely)",
        later=LATER["DistilBERT"],
    ),
    Approach(
        "MobileBERT",
        "Sun et al. 2020, arXiv 2004.02984",
        "3.3",
        ("KD-EO", "KD-AM"),
        "sure",
        "the released model, with NoNorm and ReLU; Table 2's row has LayerNorm and GELU",
        f"{BASELINE}+student=mobilebert-uncased",
        "25.3M parameters; 342 ms to 62 ms on a Pixel 4",
        later=LATER["MobileBERT"],
        notes=("The model has 24.84M parameters: the published 25.3M were not reproduced.",),
    ),
    Approach(
        "TinyBERT4",
        "Jiao et al. 2019, arXiv 1909.10351",
        "3.3",
        ("KD-EO", "KD-OL", "KD-AM"),
        "sure",
        "the released model of 4 units, 312 wide",
        f"{BASELINE}+student=TinyBERT_General_4L_312D",
        "14.5M parameters; 9.4 times faster on a K80",
        later=LATER["TinyBERT4"],
        notes=("The model has 14.35M parameters, with the projection of its training 14.59M.",),
    ),
    Approach(
        "Zhao",
        _ZHAO,
        "3.3",
        ("KD-EO", "KD-OL"),
        "guess",
        "12 units of 48, an FFN of 192 and 4,928 words; depth and FFN are as we read it",
        f"{BASELINE}+student=zhao-48",
        "61.94 times smaller, under 7 MB (likely); no speed",
        later=LATER["Zhao"],
        notes=("1.78M parameters are published, a plain BERT of these sizes has 0.60M: the rest was not found.",),
    ),
    Approach(
        "Turc",
        "Turc et al. 2019, arXiv 1908.08962",
        "3.3",
        ("KD-OL",),
        "sure",
        "BERT-small, 4 units of 512: one of its 24 sizes, our choice",
        f"{BASELINE}+student=bert_uncased_L-4_H-512_A-8",
        "29.1M parameters, with the masked-LM head (likely); 5.7 times faster on a K80 in TinyBERT's table",
    ),
    Approach(
        "Tang b",
        "Tang et al. 2019b, arXiv 1903.12136",
        "3.3",
        ("KD-OL",),
        "sure",
        "a BiLSTM over two tables of word vectors, for single sentences",
        f"{BASELINE}+student=tang-bilstm",
        "0.96M parameters without word vectors; 434 times faster than BERT-large (likely)",
    ),
    Approach(
        "Tang a",
        "Tang et al. 2019a, DeepLo workshop",
        "3.3",
        ("KD-OL",),
        "sure",
        "the same student as Tang b, and the same measurement: it is trained on other, generated sentences",
        f"{BASELINE}+student=tang-bilstm",
        "as Tang b",
    ),
    Approach(
        "Liu",
        "Liu et al. 2019, arXiv 1911.03588",
        "3.3",
        ("KD-OL",),
        "likely",
        "a BiLSTM with attention, its hidden size chosen for the published 11 MB, which is all that is said of it",
        f"{BASELINE}+student=liu-bilstm",
        "101 MB: 11 MB of BiLSTM, 90 MB of embedding",
        later=LATER["Liu"],
    ),
    Approach(
        "Chia",
        "Chia et al. 2018, arXiv 1909.03508",
        "3.3",
        ("KD-OL",),
        "guess",
        "a CNN whose sizes are chosen for the published factor",
        f"{BASELINE}+student=chia-cnn",
        "39 times fewer parameters and 300 times faster than its teacher, a GPT of 117M (likely)",
        notes=("Its teacher is no BERT, and it classifies text, not GLUE.",),
    ),
    Approach(
        "AdaBERT",
        "Chen et al. 2020, arXiv 2001.04246",
        "3.3",
        ("KD-OL",),
        "likely",
        "a CNN of searched cells; the search finds another one for each task, of which one is chosen",
        f"{BASELINE}+student=adabert",
        "6.4M to 9.5M parameters, 12.7 to 29.3 times faster, by task (likely)",
        later=Later(
            size=7.4, size_without_embedding=4.8, gpu_speedup=19.5, mnli=81.6, qqp=88.7, sst2=91.8, sure="sure"
        ),
    ),
    Approach(
        "Wu",
        "probably Wu et al. 2019, later arXiv 2004.03097",
        "4.2",
        ("KD-OL",),
        "guess",
        "nothing",
        None,
        "nothing that we know of",
        why_not="which student it is, is not certain: the survey cites 'Wu et al., 2019' for a lighter backbone and "
        "says no more; it is probably a BiLSTM, of sizes that we do not have",
    ),
    Approach(
        "ALBERT",
        _ALBERT,
        "3.4",
        ("AIC-PS", "AIC-EMC"),
        "sure",
        "ALBERT-base as released: both of its parts, which stand below by themselves",
        f"{BASELINE}+student=albert-base-v2",
        "12M parameters; 1.2 times faster in training (likely)",
        apart="it stands in two columns, and each of its two parts below in its own",
        later=LATER["ALBERT"],
    ),
    Approach(
        "ALBERT's sharing",
        _ALBERT,
        "3.4",
        ("AIC-PS",),
        "sure",
        "BERT-base with one set of weights for all units, and nothing else of ALBERT",
        f"{BASELINE}+share-units",
        "not by itself",
    ),
    Approach(
        "ALBERT's factors",
        _ALBERT,
        "3.4",
        ("AIC-EMC",),
        "sure",
        "BERT-base with tables 128 wide and a projection to 768, and nothing else of ALBERT",
        f"{BASELINE}+factor-embedding=128,layout=albert",
        "not by itself",
    ),
    Approach(
        "Zhao's vocabulary",
        _ZHAO,
        "3.4",
        ("AIC-EMC",),
        "likely",
        "BERT-base with 4,928 words, and nothing else of Zhao",
        f"{BASELINE}+vocabulary=4928",
        "not by itself; 94 % of such a vocabulary is in BERT's",
    ),
    Approach(
        "DeFormer",
        _DEFORMER,
        "3.4",
        ("AIC-AD",),
        "sure",
        f"the lower 9 units attend within question ({PAIR[0]} tokens) and passage ({PAIR[1]}); nothing is cached",
        f"{BASELINE}+decompose-attention=9",
        "not by itself",
        segments=PAIR,
        notes=(
            "Section 3.3 cites it for distillation on logits as well: that trains it, and changes nothing that is "
            "measured here.",
        ),
    ),
    Approach(
        "DeFormer, cached",
        _DEFORMER,
        "3.4",
        ("AIC-AD",),
        "sure",
        "the same, and of the passage embedding and lower units are computed beforehand",
        f"{BASELINE}+decompose-attention=9+cache-segment=2",
        "3.2 times faster on SQuAD (likely)",
        segments=PAIR,
        apart="what the cache saves is not what decomposing saves; Table 1 is of the latter",
        later=LATER["DeFormer"],
        notes=("Published speeds are with the cache: without, hardly any work is saved.",),
    ),
)  # fmt: skip
"""The methods, in the order of Table 1's columns."""

NOTES: tuple[str, ...] = (
    "Nothing is trained here: what is shown is what a method costs, not how accurate it is.",
    f"DeFormer is measured on {PAIR[0]} + {PAIR[1]} tokens, and relative to BERT-base on the same.",
    "The later edition is TACL 2021, doi 10.1162/tacl_a_00413; on what machines its speeds were measured is not sure.",
)
"""What holds for the methods as a whole."""
