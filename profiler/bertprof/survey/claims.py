"""What the survey claims about Figure 2, as data, each with the figures of a Breakdown that decide it.

Section numbers are those of version 1 of the survey. A claim that a machine does not bear out is shown so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bertprof import formatting, roofline
from bertprof.components import SURVEY_COMPONENTS, Component
from bertprof.record import Breakdown
from bertprof.sampling import Estimate

MODEL = "bert-base-uncased"

SEQUENCE_LENGTH = 256
"""The length that the survey's later edition (TACL 2021) states; version 1 states none."""

POSITIONS = 512
"""The longest sequence of BERT-base."""

Finding = tuple[str, bool | None] | None
"""What was found, in words, and whether the claim holds (None: the intervals leave it open); or None: not known."""


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        id: a short stable name.
        title: the claim in a few words.
        section: where the survey makes it.
        says: what the survey says, in our words.
        check: from a Breakdown to what is found.
        timed: whether time must have been measured.
    """

    id: str
    title: str
    section: str
    says: str
    check: Callable[[Breakdown], Finding]
    timed: bool = False


class Verdict(NamedTuple):
    """A claim beside what was measured."""

    claim: Claim
    measured: str
    holds: bool | None
    known: bool

    @property
    def answer(self) -> str:
        """yes, no, undecided (the intervals overlap) or not measured."""
        if not self.known:
            return "not measured"
        return "undecided" if self.holds is None else "yes" if self.holds else "no"


def check(breakdown: Breakdown) -> list[Verdict]:
    """All claims, in the order of the survey."""
    verdicts = []
    for claim in CLAIMS:
        finding = None if claim.timed and not breakdown.timed else claim.check(breakdown)
        verdicts.append(Verdict(claim, *(finding or ("–", None)), known=finding is not None))
    return verdicts


def _percents(values: Sequence[tuple[Component, float]]) -> str:
    return ", ".join(f"{component} {100 * value:.1f} %" for component, value in values)


def _largest(metric: str) -> Callable[[Breakdown], Finding]:
    """Whether the FFN has the most of a count."""

    def check(breakdown: Breakdown) -> Finding:
        whole = sum(getattr(cost, metric) for cost in breakdown.costs) or 1
        found = [(c, sum(getattr(cost, metric) for cost in breakdown.of(c)) / whole) for c in Component]
        ranked = sorted(found, key=lambda pair: -pair[1])
        return _percents(ranked[:2]), ranked[0][0] is Component.FFN and ranked[0][1] > ranked[1][1]

    return check


def _word_table(breakdown: Breakdown) -> Finding:
    table = next((m for m in breakdown.modules or [] if m.path.endswith("word_embeddings")), None)
    if table is None:
        return None
    share = table.parameters / breakdown.total("parameters")
    return (
        f"{formatting.exact(table.parameters)} of {formatting.exact(breakdown.total('parameters'))} parameters: "
        f"{100 * share:.1f} %",
        round(100 * share) == 21,
    )


def _embedding_is_free(breakdown: Breakdown) -> Finding:
    costs = breakdown.of(Component.EMBEDDING)
    macs, flops = sum(c.macs for c in costs), sum(c.flops for c in costs)
    return f"{macs} MACs ({formatting.exact(flops)} FLOPs)", macs == 0


def _attention_without_weights(breakdown: Breakdown) -> Finding:
    costs = breakdown.of(Component.SOFTMAX_ATTENTION)
    parameters, flops = sum(c.parameters for c in costs), sum(c.flops for c in costs)
    return f"{parameters} parameters, {formatting.count(flops)} FLOPs", parameters == 0 and flops > 0


def _three_linears_to_one(breakdown: Breakdown) -> Finding:
    def ratio(metric: str) -> float:
        before, after = (
            sum(getattr(cost, metric) for cost in breakdown.of(c))
            for c in (Component.ATTENTION_LINEAR_IN, Component.ATTENTION_LINEAR_OUT)
        )
        return before / after if after else 0.0

    parameters, macs = ratio("parameters"), ratio("macs")
    return f"{parameters:.2f} × the parameters, {macs:.2f} × the MACs", abs(parameters - 3) < 0.05 > abs(macs - 3)


def _share(breakdown: Breakdown, component: Component) -> Estimate:
    share = breakdown.time_share(breakdown.of(component))
    assert share is not None  # timed claims are checked on timed records only
    return share


def _attention_dearer_than_theory(breakdown: Breakdown) -> Finding:
    time = _share(breakdown, Component.SOFTMAX_ATTENTION)
    costs = breakdown.of(Component.SOFTMAX_ATTENTION)
    theory = sum(c.flops for c in costs) / breakdown.total("flops")
    text = f"{_with_interval(time)} of the time, {100 * theory:.1f} % of the FLOPs"
    if theory > 0:
        text += f": {time.value / theory:.1f} × its share"
    why = roofline.cause(breakdown, Component.SOFTMAX_ATTENTION)
    if why is not None:
        text += f"; {why}"
    return text, _is_above(time, Estimate(theory, theory, theory))


def _embedding_small_not_free(breakdown: Breakdown) -> Finding:
    """Small: below each of the other four parts."""
    shares = {component: _share(breakdown, component) for component in SURVEY_COMPONENTS}
    embedding = shares.pop(Component.EMBEDDING)
    smallest = min(shares.values(), key=lambda share: share.value)
    holds = _is_above(smallest, embedding) if embedding.value > 0 else False
    return f"{_with_interval(embedding)} of the time; the next smallest part {_with_interval(smallest)}", holds


def _ffn_is_the_bottleneck(breakdown: Breakdown) -> Finding:
    shares = {component: _share(breakdown, component) for component in Component}
    ffn = shares.pop(Component.FFN)
    name, largest = max(shares.items(), key=lambda pair: pair[1].value)
    text = f"ffn {_with_interval(ffn)} of the time, the largest other part, {name}, {_with_interval(largest)}"
    return text, _is_above(ffn, largest)


def _is_above(upper: Estimate, lower: Estimate) -> bool | None:
    """Whether one figure is above another; None where their intervals overlap."""
    return True if upper.low > lower.high else False if upper.high < lower.low else None


def _with_interval(share: Estimate) -> str:
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "ffn-memory",
        "FFN needs the most memory",
        "2",
        "the FFN sub-units hold the most parameters",
        _largest("parameter_bytes"),
    ),
    Claim("ffn-flops", "FFN does the most FLOPs", "2", "the FFN sub-units execute the most FLOPs", _largest("flops")),
    Claim(
        "word-table",
        "the word table is 21 % of the model",
        "3.4",
        "the embedding matrix is about 21 % of BERT",
        _word_table,
    ),
    Claim(
        "embedding-macs",
        "embedding computes nothing",
        "2",
        "a look-up has zero FLOPs (our MACs; it does not count the sum of a token's vectors)",
        _embedding_is_free,
    ),
    Claim(
        "attention-weightless",
        "softmax attention has cost but no weights",
        "2",
        "the self-attention layers hold no parameters, their computational cost is not zero",
        _attention_without_weights,
    ),
    Claim(
        "linear-before-after",
        "linear before attention = 3 × linear after",
        "2",
        "roughly three times, as query, key and value go in and one output comes out",
        _three_linears_to_one,
    ),
    Claim(
        "attention-dearer",
        "softmax attention costs more in practice than in theory",
        "2",
        "significantly dearer in practice (Titan X, TensorFlow); checked: share of time above share of FLOPs",
        _attention_dearer_than_theory,
        timed=True,
    ),
    Claim(
        "embedding-time",
        "embedding takes some time, but little",
        "2",
        "not zero, for its memory accesses, but relatively small",
        _embedding_small_not_free,
        timed=True,
    ),
    Claim(
        "ffn-bottleneck",
        "FFN is the bottleneck at run time",
        "2",
        "the FFN sub-units take the most time of all parts",
        _ffn_is_the_bottleneck,
        timed=True,
    ),
)  # fmt: skip
