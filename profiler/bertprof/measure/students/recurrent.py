"""BiLSTM students: Tang et al. 2019b and Liu et al. 2019."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

# Tang et al. 2019b ----------------------------------------------------------------------------------------------------


class BiLstmConfig(PreTrainedConfig):  # type: ignore[misc]
    """The configuration of `BiLstm`.

    Args:
        vocab_size: rows of each table of word vectors.
        embedding_size: their width.
        hidden_size: of the LSTM, in each direction.
        num_hidden_layers: of the LSTM.
        intermediate_size: of the layer before the classifier.
        pair: whether a sequence is two sentences, one half each.
    """

    model_type = "bertprof-bilstm"

    def __init__(
        self,
        vocab_size: int = 30_522,
        embedding_size: int = 300,
        hidden_size: int = 150,
        num_hidden_layers: int = 1,
        intermediate_size: int = 200,
        pair: bool = False,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.intermediate_size = intermediate_size
        self.pair = pair
        super().__init__(pad_token_id=pad_token_id, **kwargs)

    @property
    def student_choices(self) -> str:
        """What is published, and what is our choice."""
        halves = ", and the halves of a sequence are the pair" if self.pair else ""
        return (
            "the student of Tang et al. 2019b, arXiv 1903.12136, with its classifier; all is as published but the "
            f"words: our choice is BERT's vocabulary in both tables, static and tuned{halves}"
        )


class BiLstm(PreTrainedModel):  # type: ignore[misc]
    """The BiLSTM of Tang et al. 2019b (arXiv 1903.12136), for one sentence or, siamese, for a pair.

    Two tables of word vectors, one static and one tuned, give 2 × 300 inputs to one bidirectional LSTM layer; the last
    states of both directions go through a ReLU layer to the classifier. Both sentences of a pair go through the same
    LSTM, and [s1, s2, |s1 − s2|, s1 · s2] to the ReLU layer. So Section 3.2 of the paper and dbert/distill/model of
    castorini/d-bert. Parameters without the tables, with H = 150 for SST-2 and MNLI and H = 300 for QQP, a ReLU layer
    of 200 and C classes:

    - one sentence: 2 · (4 · H · (600 + H) + 2 · 4 · H) + (2 · H · 200 + 200) + (200 · C + C), 963,002 for SST-2;
    - a pair: the same with 8 · H inputs to the ReLU layer, 1,143,203 for MNLI and 2,645,402 for QQP.

    The word vectors are word2vec's of the words of a task, which are not known here; ours are as many as BERT's, so
    that the student runs on the same ids. With one table of 30,522 × 300 SST-2's has 10,119,602 parameters, the 10.1M
    that later papers print; with both 19,276,202. As in the released code the LSTM sees no padding, and one token of a
    sentence that has nothing else. The first half of a pair is the longer one; a single token is both.
    """

    config_class = BiLstmConfig
    base_model_prefix = ""
    _supports_sdpa = True  # there is no attention in it to be another

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.embeddings = _WordVectors(config.vocab_size, config.embedding_size)
        self.backbone = _BiLstm(2 * config.embedding_size, config)
        states = 8 if config.pair else 2
        self.head = _Classifier(states * config.hidden_size, config.intermediate_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Both tables."""
        return self.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        """Logits of shape (batch, classes), of ids and, where some are padding, a mask of shape (batch, tokens)."""
        parts = [slice(None)]
        if self.config.pair:
            tokens = input_ids.shape[1] if attention_mask is None else int(attention_mask.sum(dim=1).max())
            half = tokens // 2
            parts = [slice(0, tokens - half), slice(tokens - max(1, half), tokens)]
        sentences = [
            self.backbone(
                self.embeddings(input_ids[:, part]), None if attention_mask is None else attention_mask[:, part]
            )[1]
            for part in parts
        ]
        return SequenceClassifierOutput(logits=self.head(*sentences))


class _WordVectors(nn.Module):
    """Two tables, one static: its rows beside those that are tuned."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.tuned = nn.Embedding(words, width)
        self.static = nn.Embedding(words, width).requires_grad_(False)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.cat((self.tuned(ids), self.static(ids)), dim=-1)


class _Classifier(nn.Module):
    """A ReLU layer and the classifier, of the states of a sentence or of a pair."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        states = first
        if second is not None:
            states = torch.cat((first, second, (first - second).abs(), first * second), dim=-1)
        logits: Tensor = self.classifier(torch.relu(self.dense(states)))
        return logits


# Liu et al. 2019 ------------------------------------------------------------------------------------------------------


class AttentiveBiLstmConfig(PreTrainedConfig):  # type: ignore[misc]
    """The configuration of `AttentiveBiLstm`.

    Args:
        vocab_size: rows of the table of words.
        embedding_size: its width.
        hidden_size: of the LSTM, in each direction.
        num_hidden_layers: of the LSTM.
    """

    model_type = "bertprof-mkd"
    student_choices = (
        "the student of Liu et al. 2019, arXiv 1911.03588, with its classifier: they print 11 MB for the BiLSTM with "
        "attention and 90 MB for the embedding; our choice is a width of 300 in each direction and additive attention "
        "over the tokens, which give these sizes"
    )

    def __init__(
        self,
        vocab_size: int = 30_522,
        embedding_size: int = 768,
        hidden_size: int = 300,
        num_hidden_layers: int = 1,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        super().__init__(pad_token_id=pad_token_id, **kwargs)


class AttentiveBiLstm(PreTrainedModel):  # type: ignore[misc]
    """The attentive BiLSTM of Liu et al. 2019 (arXiv 1911.03588), BERT-large's student in several tasks at once.

    Published are "a bidirectional LSTM with attention mechanism", 101 MB of which 90 are the embedding, and 24.1 % of
    BERT-base's size with, 3.3 % without it; 90 MB are BERT's words, 30,522 × 768 float32 numbers, in MiB 89.4. The
    widths of its layers and the form of its attention are our choice: 300 in each direction, additive attention over
    the tokens (Bahdanau et al. 2015; of a sentence alone, Yang et al. 2016, Equations 5 to 7), and a classifier, of 3
    classes as for MNLI. H = 300, W = 2 · H:

    - LSTM: 2 · (4 · H · (768 + H) + 2 · 4 · H) = 2,568,000 parameters;
    - attention: W · W + W and a vector of W, 361,200;
    - classifier: 3 · W + 3 = 1,803;

    2,931,003 in all, 11.2 MiB, and 26,371,899 with the words, 100.6 MiB and 24.1 % of BERT-base's 109,482,240. The
    released model is trained on several tasks, of which each has layers of its own; this is what one of them runs.
    """

    config_class = AttentiveBiLstmConfig
    base_model_prefix = ""
    _supports_sdpa = True  # as if fused: of its attention there is one form

    def __init__(self, config: AttentiveBiLstmConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.backbone = _BiLstm(config.embedding_size, config)
        self.attention = _AdditiveAttention(2 * config.hidden_size)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of words."""
        return self.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        """Logits of shape (batch, classes), of ids and, where some are padding, a mask of shape (batch, tokens)."""
        states, _ = self.backbone(self.embeddings(input_ids), attention_mask)
        return SequenceClassifierOutput(logits=self.classifier(self.attention(states, attention_mask)))


class _AdditiveAttention(nn.Module):
    """The sum of states (batch, tokens, width) → (batch, width), weighted by the softmax of v · tanh(W · state + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        scores = self.score(torch.tanh(self.projection(states)))
        if mask is not None:
            hidden = mask[:, : states.shape[1], None] == 0
            scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        summed: Tensor = scores.softmax(dim=1).transpose(1, 2) @ states
        return summed.squeeze(1)


# The backbone ---------------------------------------------------------------------------------------------------------


class _BiLstm(nn.Module):
    """A bidirectional LSTM that sees no padding."""

    def __init__(self, inputs: int, config: BiLstmConfig | AttentiveBiLstmConfig) -> None:
        super().__init__()
        hidden, layers = config.hidden_size, config.num_hidden_layers
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs up to the end of the longest sequence (batch, tokens, 2H), and last states of both directions.

        The states are those of the last layer, one beside the other: (batch, 2H).

        Args:
            x: (batch, tokens, inputs).
            mask: (batch, tokens), 0 for padding, which is at the end.
        """
        if mask is None:
            outputs, (states, _) = self.lstm(x)
            return outputs, _side_by_side(states)
        lengths = mask.sum(dim=1).clamp(min=1)
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest == longest:
            return self(x[:, :longest], None)  # type: ignore[no-any-return]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, (states, _) = self.lstm(packed)
        return pad_packed_sequence(outputs, batch_first=True)[0], _side_by_side(states)


def _side_by_side(states: Tensor) -> Tensor:
    """Of all layers and directions (2 · layers, batch, H) both of the last layer: (batch, 2H)."""
    return states[-2:].transpose(0, 1).flatten(1)
