"""What the later edition of the survey prints of the systems in Table 2: its Table 1, as data.

Ganesh et al. 2021, TACL, doi 10.1162/tacl_a_00413. Rows that only that edition has are left out.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

Sure = Literal["sure", "likely", "guess"]
"""How sure something is."""

Points = Annotated[float, msgspec.Meta(ge=0, le=100)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=1000)]
Times = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """That a figure is of another setting than the one that runs here, and what its size is by arithmetic.

    Attributes:
        name: of the system at that setting.
        text: what it is.
        embedding, rest: what is left of the bytes of BERT-base's embedding, and of all else.
    """

    name: str
    text: str
    embedding: Share
    rest: Share

    def percent(self, share: float) -> float:
        """Its size in % of BERT-base's, of which the embedding is that share."""
        return 100 * (self.embedding * share + self.rest * (1 - share))

    @property
    def percent_without_embedding(self) -> float:
        """The same of both without their embeddings."""
        return 100 * self.rest


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """What Table 1 of the survey's later edition (TACL 2021) prints of a system; null where a dash stands.

    On what machine its speeds were measured is not sure: some are of papers, on a V100 or a K80, others likely its
    authors' own, on the Titan X and the Xeon E5-1620 of its Figure 2.

    Attributes:
        size: with the embedding, in % of BERT-base's.
        size_without_embedding: both without their embeddings.
        gpu_speedup, cpu_speedup: latency of BERT-base over that of the model.
        mnli, qqp, sst2, squad_f1: accuracies and F1 in points, the survey's.
        setting: of what other setting than ours all that is; None: of the one that runs here.
        sure: how sure it is that these figures stand in one row; most of the table was put together from its columns.
    """

    size: Percent
    size_without_embedding: Percent
    gpu_speedup: Times | None = None
    cpu_speedup: Times | None = None
    mnli: Points | None = None
    qqp: Points | None = None
    sst2: Points | None = None
    squad_f1: Points | None = None
    setting: Setting | None = None
    sure: Sure = "likely"


LATER: Mapping[str, Later] = MappingProxyType(
    {
        "Q-BERT": Later(
            size=15,
            size_without_embedding=12.5,
            gpu_speedup=1,
            cpu_speedup=1,
            mnli=83.9,
            sst2=92.6,
            squad_f1=88.3,
            setting=Setting(name="Q-BERT 4 bit", text="4 bits, 8 in the embedding", embedding=8 / 32, rest=4 / 32),
            sure="sure",
        ),
        "RPP": Later(
            size=67.6,
            size_without_embedding=58.7,
            gpu_speedup=1,
            cpu_speedup=1,
            squad_f1=88.5,
            setting=Setting(name="RPP 41.3 %", text="BERT-base with 41.3 % pruned", embedding=1, rest=1 - 0.413),
            sure="sure",
        ),
        "Liu": Later(
            size=24.1,
            size_without_embedding=3.3,
            gpu_speedup=10.7,
            cpu_speedup=8.6,
            mnli=78.6,
            qqp=88.6,
            sst2=91.0,
            sure="sure",
        ),
        "DistilBERT": Later(
            size=60.7,
            size_without_embedding=50,
            gpu_speedup=1.94,
            cpu_speedup=1.73,
            mnli=82.2,
            qqp=88.5,
            sst2=91.3,
            squad_f1=86.9,
        ),
        "Zhao": Later(
            size=1.6,
            size_without_embedding=1.8,
            gpu_speedup=25.5,
            cpu_speedup=22.7,
            mnli=71.3,
            sst2=82.2,
        ),
        "MobileBERT": Later(
            size=23.1,
            size_without_embedding=24.8,
            gpu_speedup=3.9,
            cpu_speedup=4.7,
            mnli=83.3,
            sst2=92.8,
            squad_f1=90.0,
        ),
        "TinyBERT4": Later(
            size=13.3,
            size_without_embedding=6.4,
            gpu_speedup=9.4,
            cpu_speedup=9.3,
            mnli=82.5,
            qqp=89.2,
            sst2=92.6,
        ),
        "DeFormer": Later(
            size=100,
            size_without_embedding=100,
            gpu_speedup=3.14,
            cpu_speedup=3.55,
            mnli=82.6,
            qqp=90.3,
            squad_f1=87.1,
        ),
        "ALBERT": Later(
            size=10.7,
            size_without_embedding=8.8,
            gpu_speedup=1.2,
            cpu_speedup=1.2,
            mnli=84.3,
            qqp=89.6,
            sst2=90.3,
            squad_f1=89.3,
        ),
    }
)
"""By system, in the order of Table 2."""
