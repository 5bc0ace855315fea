"""Training of a language model on sequences of which some places are to be predicted.

Decides: the loss (cross-entropy over possible targets; beside it, read off an inner layer, CTC of the words of speech
that is heard, and the piece of text that is being said or has just been heard), dropout, padding, and the judgement by
share of right tokens. Refuses to know: prompts and tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from services.nano.lm.network import TargetSoftmax, hidden_states, tapped, thinned
from services.nano.training.autograd import half_precision
from services.nano.training.loop import SCORE, Figures
from services.shared.codec.codebooks import GROUP_TOKENS
from services.shared.nn.step1 import Step1

INNER_LAYERS: Final = 3
NO_HINT: Final = -1
_SMOOTHING: Final = 0.02
_DROPOUT: Final = 0.1
_DRAWN_A_KEPT: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One sequence.

    Attributes:
        ids: [T] as the network reads them.
        targets: [T] as they should be: differs from `ids` where those are disturbed.
        first_target: place of the first id to predict; all from there on are.
        speech: first and last place + 1 of the speech whose words are known, or (0, 0).
        words: [W] what is said there, in places of the CTC alphabet, from 1 on.
        hints: [T] which piece of the text each inner row is to name, or `NO_HINT`; empty for no hints.
    """

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    first_target: int
    speech: tuple[int, int] = (0, 0)
    words: tuple[int, ...] = ()
    hints: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class Examples(Protocol):
    """Where sequences come from."""

    def draw(self, rng: np.random.Generator) -> Example:
        """One to train on."""
        ...

    def judged(self) -> list[Example]:
        """Those that are held out, the same at every call."""
        ...


class LmTask:
    """See `services.nano.training.loop.Task`.

    Args:
        model: the room's network.
        examples: what it learns.
        softmax: over the ids that can be targets.
        batch: sequences a step.
        ctc_words: size of the CTC alphabet without the blank; 0 for no CTC.
        ctc_weight: beside the cross-entropy.
        hint_pieces: ids that hints can be, from 0 to here; 0 for no hints.
        hint_weight: beside the cross-entropy.
    """

    def __init__(
        self,
        model: Step1,
        examples: Examples,
        softmax: TargetSoftmax,
        *,
        batch: int,
        ctc_words: int = 0,
        ctc_weight: float = 0.6,
        hint_pieces: int = 0,
        hint_weight: float = 0.3,
    ) -> None:
        self.model = model
        self.softmax = softmax
        size = model.config.hidden_size
        heads: dict[str, nn.Module] = {}
        if ctc_words:
            heads["words"] = nn.Linear(size, ctc_words + 1)
        if hint_pieces:
            heads["said"] = nn.Linear(size, size, bias=False)
        self.helpers: nn.Module = nn.ModuleDict(heads)
        self._hears = ctc_words > 0
        self._hint_pieces, self._hint_weight = hint_pieces, hint_weight
        self._examples = examples
        self._batch = batch
        self._ctc_weight = ctc_weight
        self._judged: list[Example] = []

    @property
    def network(self) -> nn.Module:
        """The language model."""
        return self.model

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        """See the module; the sequences of a batch are of similar length."""
        drawn = sorted((self._examples.draw(rng) for _ in range(_DRAWN_A_KEPT * self._batch)), key=lambda e: len(e.ids))
        first = int(rng.integers(0, len(drawn) - self._batch + 1))
        batch = drawn[first : first + self._batch]
        with half_precision(), thinned(self.model, _DROPOUT), tapped(self.model, INNER_LAYERS) as inner:
            hidden, targets = self._predicting(batch)
            logits = self.softmax.logits(self.model.lm_head, hidden).float()
        loss = self.softmax.loss(logits, targets, smoothing=_SMOOTHING)
        figures = {"tokens": loss.item(), "right": self.softmax.accuracy(logits.detach(), targets)}
        if self._hears and any(len(example.words) for example in batch):
            ctc = self._ctc(batch, inner[0].float())
            loss = loss + self._ctc_weight * ctc
            figures["ctc"] = ctc.item()
        if self._hint_pieces and any((example.hints != NO_HINT).any() for example in batch):
            hint, found = self._hint(batch, inner[0].float())
            loss = loss + self._hint_weight * hint
            figures |= {"hint": hint.item(), "found": found}
        return loss, figures

    def judge(self) -> Figures:
        """Share of right tokens in held-out sequences, each place given what was right before it."""
        self._judged = self._judged or sorted(self._examples.judged(), key=lambda e: len(e.ids))
        right, count, total = 0.0, 0, 0.0
        for start in range(0, len(self._judged), self._batch):
            hidden, targets = self._predicting(self._judged[start : start + self._batch])
            logits = self.softmax.logits(self.model.lm_head, hidden)
            right += self.softmax.accuracy(logits, targets) * len(targets)
            total += float(self.softmax.loss(logits, targets, smoothing=0.0)) * len(targets)
            count += len(targets)
        return {SCORE: right / max(count, 1), "tokens": total / max(count, 1)}

    def _predicting(self, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Hidden states [N, D] from which the targets [N] are to be predicted."""
        ids = _padded([example.ids for example in batch])
        hidden = hidden_states(self.model, ids)
        chosen = [hidden[row, e.first_target - 1 : len(e.ids) - 1] for row, e in enumerate(batch)]
        targets = [torch.from_numpy(e.targets[e.first_target :]) for e in batch]
        return torch.cat(chosen), torch.cat(targets)

    def _ctc(self, batch: Sequence[Example], inner: Tensor) -> Tensor:
        """Words of the speech, read off an inner layer at the last token of every group of five."""
        rows = inner.view(len(batch), -1, inner.shape[-1])
        places = [slice(e.speech[0] + GROUP_TOKENS - 1, e.speech[1], GROUP_TOKENS) for e in batch]
        spoken = [
            (rows[row, place], e.words)
            for row, (place, e) in enumerate(zip(places, batch, strict=True))
            if len(e.words)
        ]
        logits = self.helpers.get_submodule("words")(nn.utils.rnn.pad_sequence([own for own, _ in spoken]))
        return F.ctc_loss(
            logits.log_softmax(2),
            torch.tensor([word for _, words in spoken for word in words]),
            torch.tensor([len(own) for own, _ in spoken]),
            torch.tensor([len(words) for _, words in spoken]),
            zero_infinity=True,
        )

    def _hint(self, batch: Sequence[Example], inner: Tensor) -> tuple[Tensor, float]:
        """Loss and share of right pieces: each is named by its own row, so a word hardly ever said is found too."""
        rows = inner.view(len(batch), -1, inner.shape[-1])
        hinted = [(row, example.hints) for row, example in enumerate(batch) if len(example.hints)]
        chosen = torch.cat([rows[row, : len(hints)] for row, hints in hinted])
        pieces = torch.from_numpy(np.concatenate([hints for _, hints in hinted]))
        known = pieces != NO_HINT
        table = self.model.model.embed_tokens.weight[: self._hint_pieces]
        with half_precision():
            wanted = self.helpers.get_submodule("said")(chosen[known])
            logits = wanted @ F.rms_norm(table, table.shape[1:]).T
        loss = F.cross_entropy(logits.float(), pieces[known])
        return loss, float((logits.detach().argmax(1) == pieces[known]).float().mean())


def _padded(rows: Sequence[NDArray[np.int64]]) -> Tensor:
    """[B, T] with zeros behind the shorter rows."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
