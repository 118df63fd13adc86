"""An LSTM language model of words.

Source: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997; the sizes are the medium model of W. Zaremba,
I. Sutskever, O. Vinyals, "Recurrent Neural Network Regularization", 2014: two layers of 650, dropout 0.5, 10,000 words.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.models.built_in import BuiltIn


@dataclass(frozen=True)
class LstmSizes:
    """The medium model's sizes; smaller ones serve tests."""

    vocabulary: int = 10_000
    width: int = 650
    layers: int = 2
    dropout: float = 0.5


class LstmLanguageModel(nn.Module):
    """Word numbers ``[batch, tokens]`` to logits of the next word ``[batch, tokens, vocabulary]``."""

    def __init__(self, sizes: LstmSizes | None = None) -> None:
        """Make the network."""
        super().__init__()
        sizes = sizes or LstmSizes()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.lstm = nn.LSTM(sizes.width, sizes.width, sizes.layers, dropout=sizes.dropout, batch_first=True)
        self.head = nn.Linear(sizes.width, sizes.vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[batch, tokens]`` to ``[batch, tokens, vocabulary]``."""
        hidden, _ = self.lstm(self.dropout(self.embedding(tokens)))
        logits: Tensor = self.head(self.dropout(hidden))
        return logits


def _tokens(name: str, batch: int, seq: int) -> InputSpec:
    return InputSpec(name, "int64", (batch, seq), LstmSizes.vocabulary)


BUILT_IN = BuiltIn(
    name="lstm",
    build=lambda _checkpoint: LstmLanguageModel(),
    inputs=lambda batch, seq: _tokens("tokens", batch, seq),
    targets=lambda batch, seq: _tokens("targets", batch, seq),
    seq=128,
    no_checkpoint="its recurrence is one fused nn.LSTM call without blocks that could be recomputed one at a time",
)
