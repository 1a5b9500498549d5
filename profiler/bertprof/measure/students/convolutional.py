"""Convolutional students: Chia et al. 2018 and Chen et al. 2020."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

# Chia et al. 2018 -----------------------------------------------------------------------------------------------------


class BlendCnnConfig(PreTrainedConfig):  # type: ignore[misc]
    """The configuration of `BlendCnn`.

    Args:
        vocab_size: rows of the table of words.
        embedding_size: its width.
        hidden_size: channels of each convolution.
        num_hidden_layers: convolutions, one behind the other.
        kernel_size: tokens that a convolution sees.
        intermediate_size: of the layer before the classifier.
    """

    model_type = "bertprof-cnn"
    student_choices = (
        "the student of Chia et al. 2018, arXiv 1909.03508, with its classifier: they print 39 times fewer parameters "
        "than their teacher, likely a GPT of 117M; our choice is 8 convolutions of 100 channels over 5 tokens, as in "
        "a public re-implementation, and word vectors 82 wide, which give 3.0M"
    )

    def __init__(
        self,
        vocab_size: int = 30_522,
        embedding_size: int = 82,
        hidden_size: int = 100,
        num_hidden_layers: int = 8,
        kernel_size: int = 5,
        intermediate_size: int = 100,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.kernel_size = kernel_size
        self.intermediate_size = intermediate_size
        super().__init__(pad_token_id=pad_token_id, **kwargs)


class BlendCnn(PreTrainedModel):  # type: ignore[misc]
    """BlendCNN of Chia et al. 2018 (arXiv 1909.03508; NeurIPS workshop CDNNRIA), GPT's student in text classification.

    Published are 39 times fewer parameters than the teacher's (likely a GPT, 116.5M as we count it) and a speed 300
    times its own. The structure is that of a public re-implementation (BlendCNN of Dong-Hyun Lee, among the examples of
    intel/neural-compressor): convolutions with ReLU one behind the other, each pooled over the tokens, all that is
    pooled side by side through a ReLU layer to the classifier; so are 8 layers of 100 channels over 5 tokens and a ReLU
    layer of 100. Our choice are the maximum as the pool, where that takes the mean, and word vectors of BERT's
    vocabulary without positions, E = 82 wide:

    30,522 · E + (5 · E · 100 + 100) + 7 · (5 · 100 · 100 + 100) + (800 · 100 + 100) + (100 · C + C) is 2,974,906
    parameters with C = 2 classes, 116,534,784 / 39.2; 472,102 without the words.

    The word vectors of padding are zero.
    """

    config_class = BlendCnnConfig
    base_model_prefix = ""
    _supports_sdpa = True  # there is no attention in it to be another

    def __init__(self, config: BlendCnnConfig) -> None:
        super().__init__(config)
        self.embeddings = _Words(config.vocab_size, config.embedding_size)
        self.backbone = _BlendedConvolutions(config)
        pooled = config.num_hidden_layers * config.hidden_size
        self.head = nn.Sequential()
        self.head.add_module("dense", nn.Linear(pooled, config.intermediate_size))
        self.head.add_module("activation", nn.ReLU())
        self.head.add_module("classifier", nn.Linear(config.intermediate_size, config.num_labels))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of words."""
        return self.embeddings.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        """Logits of shape (batch, classes), of ids and, where some are padding, a mask of shape (batch, tokens)."""
        return SequenceClassifierOutput(logits=self.head(self.backbone(self.embeddings(input_ids, attention_mask))))


class _Words(nn.Module):
    """A table of words; padding is zero."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        return _shown(self.words(ids), mask)


class _BlendedConvolutions(nn.Module):
    """Convolutions one behind the other, the maxima of each over the tokens: (batch, tokens, E) → (batch, L · H)."""

    def __init__(self, config: BlendCnnConfig) -> None:
        super().__init__()
        if config.kernel_size < 1:
            raise ValueError(f"kernel_size is {config.kernel_size}; it must be at least 1")
        inputs = [config.embedding_size, *[config.hidden_size] * (config.num_hidden_layers - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, config.hidden_size, config.kernel_size, padding="same") for width in inputs
        )

    def forward(self, x: Tensor) -> Tensor:
        x, pooled = x.transpose(1, 2), []
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
            pooled.append(x.amax(dim=-1))
        return torch.cat(pooled, dim=-1)


# Chen et al. 2020 -----------------------------------------------------------------------------------------------------

Edge = Sequence[Any]
"""[from, to, operation]: the inputs of a cell are nodes 0 and 1, its intermediate nodes 2, 3 and 4."""

_INTERMEDIATE = range(2, 5)

_DEFAULT_EDGES = (
    (0, 2, "conv7"),
    (1, 2, "conv5"),
    (0, 3, "dilated-conv7"),
    (2, 3, "conv5"),
    (1, 4, "max-pool"),
    (3, 4, "conv7"),
)


class AdaBertConfig(PreTrainedConfig):  # type: ignore[misc]
    """The configuration of `AdaBert`.

    Args:
        vocab_size: rows of the table of words.
        hidden_size: the width of everything.
        num_hidden_layers: cells.
        max_position_embeddings: rows of the table of positions.
        edges: of a cell, the same in all, as [from, to, operation]: 0 and 1 are its inputs, 2, 3 and 4 its
            intermediate nodes; operations are conv3, conv5, conv7, dilated-conv3, dilated-conv5, dilated-conv7,
            max-pool, average-pool, identity and zero.
    """

    model_type = "bertprof-adabert"
    student_choices = (
        "AdaBERT of Chen et al. 2020, arXiv 2001.04246, with its classifier: the search gives each task its own cells, "
        "which are not published; our choice of edges gives their average, 7.4 % of BERT-base's parameters and 4.8 % "
        "without the embedding; --set edges=... sets others"
    )

    def __init__(
        self,
        vocab_size: int = 30_522,
        hidden_size: int = 128,
        num_hidden_layers: int = 8,
        max_position_embeddings: int = 512,
        edges: Sequence[Edge] = _DEFAULT_EDGES,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.max_position_embeddings = max_position_embeddings
        self.edges = [list(edge) for edge in edges]
        self.layer_norm_eps = layer_norm_eps
        super().__init__(pad_token_id=pad_token_id, **kwargs)


class AdaBert(PreTrainedModel):  # type: ignore[misc]
    """AdaBERT of Chen et al. 2020 (arXiv 2001.04246): cells of convolutions, found for each task by a search.

    Tables of words and positions 128 wide with a norm, then up to 8 cells. The inputs of a cell are the outputs of the
    two before it (of the first, the embedding twice); each of its 3 intermediate nodes is the sum of its edges, an edge
    is one operation on an earlier node, and the cell's output is the mean of the intermediate nodes with learned
    weights. The means over the tokens of the embedding and of all cells, with learned weights, go through tanh to the
    classifier. A search gives each task one pattern of edges, two into each node.

    What an operation is follows the code that the authors released (alibaba/EasyTransfer, scripts/autokd-torch and
    easytransfer/model_zoo/modeling_adabert.py): ReLU, a convolution of all 128 channels with a bias, batch norm, of
    window 3, 5 or 7, dilated by 1 or 2; or a pool of 3 with batch norm. (The second one, a reproduction, runs a
    morphological dilation where the paper has a dilated convolution, and has neither biases nor norms of pools.) Six
    edges of conv7 in 8 cells are 9,496,355 parameters, the 9.5M that are published as the largest.

    The patterns that were found are not at hand. Our choice are six edges of which five are convolutions, over 31
    tokens in all: 31 · 128² + 5 · 128 + 6 · 2 · 128 + 3 + 1 = 510,084 parameters a cell, 8,053,539 in all with 2
    classes, 7.4 % of BERT-base, of which 3,972,352 are tables; published are 7.4 % on average, and 4.8 % without them.

    This is the form for single sentences; as released, padding has an embedding of zero before the norm, and is
    averaged with the rest.
    """

    config_class = AdaBertConfig
    base_model_prefix = ""
    _supports_sdpa = True  # there is no attention in it to be another

    def __init__(self, config: AdaBertConfig) -> None:
        super().__init__(config)
        _check_edges(config.edges)
        self.embeddings = _AdaBertEmbeddings(config)
        self.cells = nn.ModuleList(_Cell(config.edges, config.hidden_size) for _ in range(config.num_hidden_layers))
        self.head = _AdaBertHead(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of words."""
        return self.embeddings.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        """Logits of shape (batch, classes), of ids and, where some are padding, a mask of shape (batch, tokens)."""
        embedded = self.embeddings(input_ids, attention_mask)
        before, last = embedded, embedded
        outputs = [embedded]
        for cell in self.cells:
            before, last = last, cell(before, last)
            outputs.append(last)
        shares = [cell.share for cell in self.cells]
        return SequenceClassifierOutput(logits=self.head(outputs, shares))


def _check_edges(edges: Any) -> None:
    """Refuses what is no cell.

    Raises:
        ValueError: it says which edge is none, or which node has none.
    """
    seen = set()
    for edge in edges:
        known = isinstance(edge, list) and [type(part) for part in edge] == [int, int, str] and edge[2] in _OPERATIONS
        if not known or edge[1] not in _INTERMEDIATE or edge[0] not in range(edge[1]):
            operations = ", ".join(_OPERATIONS)
            raise ValueError(
                f"edge {edge} is not [from, to, operation], from < to, to 2, 3 or 4; there are {operations}"
            )
        if (edge[0], edge[1]) in seen:
            raise ValueError(f"there are two edges from node {edge[0]} to node {edge[1]}")
        seen.add((edge[0], edge[1]))
    for node in _INTERMEDIATE:
        if node not in {to for _, to in seen}:
            raise ValueError(f"no edge leads to node {node}")


class _AdaBertEmbeddings(nn.Module):
    """Words and positions, padding zero, and their norm: ids (batch, tokens) → (batch, width, tokens)."""

    def __init__(self, config: AdaBertConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        summed = self.words(ids) + self.positions(places)
        normed: Tensor = self.norm(_shown(summed, mask))
        return normed.transpose(1, 2)


class _Cell(nn.Module):
    """Intermediate nodes, each the sum of its edges, and their mean with learned weights. All (batch, width, tokens).

    `share` is the weight of its output in the classifier's mean of all outputs, before softmax.
    """

    def __init__(self, edges: Sequence[Edge], width: int) -> None:
        super().__init__()
        self._ends = [(before, node) for before, node, _ in edges]
        self.edges = nn.ModuleList(_OPERATIONS[operation](width) for _, _, operation in edges)
        self.node_shares = nn.Parameter(torch.zeros(len(_INTERMEDIATE)))
        self.share = nn.Parameter(torch.zeros(1))

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        nodes = [before, last]
        for node in _INTERMEDIATE:
            ends = zip(self._ends, self.edges, strict=True)
            reached = [edge(nodes[start]) for (start, end), edge in ends if end == node]
            nodes.append(reduce(torch.add, reached))
        return _blended(nodes[2:], self.node_shares)


class _Zero(nn.Module):
    """An edge that passes on nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def _convolution(window: int, dilation: int, width: int) -> nn.Module:
    convolution = nn.Conv1d(width, width, window, padding="same", dilation=dilation)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm1d(width))


def _pool(kind: type[nn.MaxPool1d] | type[nn.AvgPool1d], width: int) -> nn.Module:
    options = {"count_include_pad": False} if kind is nn.AvgPool1d else {}
    return nn.Sequential(nn.ReLU(), kind(3, stride=1, padding=1, **options), nn.BatchNorm1d(width))


_OPERATIONS: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        **{f"conv{window}": partial(_convolution, window, 1) for window in (3, 5, 7)},
        **{f"dilated-conv{window}": partial(_convolution, window, 2) for window in (3, 5, 7)},
        "max-pool": partial(_pool, nn.MaxPool1d),
        "average-pool": partial(_pool, nn.AvgPool1d),
        "identity": lambda width: nn.Identity(),
        "zero": lambda width: _Zero(),
    }
)
"""Name → the operation on a node, of that width."""


class _AdaBertHead(nn.Module):
    """The means over the tokens of all outputs, their mean with learned weights, tanh, and the classifier."""

    def __init__(self, config: AdaBertConfig) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(1))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, outputs: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
        pooled = [output.mean(dim=-1) for output in outputs]
        logits: Tensor = self.classifier(torch.tanh(_blended(pooled, torch.cat((self.share, *shares)))))
        return logits


def _blended(parts: Sequence[Tensor], shares: Tensor) -> Tensor:
    """The sum of parts of one shape, weighted by softmax of their shares."""
    weights = shares.softmax(dim=0)
    return reduce(torch.add, (part * weight for part, weight in zip(parts, weights.unbind(), strict=True)))


def _shown(embedded: Tensor, mask: Tensor | None) -> Tensor:
    """Embeddings (batch, tokens, width) of which those of padding are zero."""
    return embedded if mask is None else embedded * mask.unsqueeze(-1).to(embedded.dtype)
