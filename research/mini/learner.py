"""What is trained: mini, with the heads that help it to learn, and the loss of one batch.

Owns which heads take part in which kind of batch. The heads are on the picture encoder (`eyes.py`) and on the
text layers (`aids.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MllamaForConditionalGeneration

from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.world import Scene
from research.mini.aids import Aids, Last, Watch
from research.mini.eyes import Eyes, patches
from research.mini.rows import IGNORE, Row, Rows

SEEING = 0.2  # the weight of the picture encoder's own loss, once there is text to learn


@dataclass(frozen=True)
class Batch:
    """Rows of one kind, the scene and the pixels of each, and the question where it is known.

    A batch of the kind "seeing" has no rows.
    """

    kind: str
    scenes: Sequence[Scene]
    pixels: dict[str, Tensor]
    rows: Sequence[Row] = ()
    questions: Sequence[SceneQuestion] = ()


class Learner(nn.Module):
    """`told` holds, after each pass, what is worth logging: by name, under the batch's kind."""

    def __init__(self, model: MllamaForConditionalGeneration, rows: Rows):
        super().__init__()
        self.model, self.eyes, self.aids = model, Eyes(), Aids()
        self._rows = rows
        self._watch = Watch(model.model.language_model.layers)
        self.told: dict[str, float] = {}

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        if batch.kind == "seeing":
            output = self.model.model.vision_model(**batch.pixels).last_hidden_state
            loss, self.told = self.eyes.loss(patches(output), batch.scenes)
            return loss
        return self._text_loss(batch)

    def _text_loss(self, batch: Batch) -> Tensor:
        """Weighted mean cross-entropy of the learned tokens, and the heads' losses."""
        ids, labels, weights, deciding = self._rows.tensors(batch.rows)
        inner: Any = self.model.model
        extra: dict[str, Tensor] = {}
        seeing = torch.zeros(())
        if batch.rows[0].example.picture:
            output = inner.vision_model(**batch.pixels).last_hidden_state
            seeing = SEEING * self.eyes.loss(patches(output), batch.scenes)[0]
            mask = torch.ones(*ids.shape, 1, 1, dtype=torch.long)
            mask[:, : len(self._rows.start)] = 0  # what comes before the picture's mark
            states = inner.multi_modal_projector(output).reshape(len(ids), output.shape[-2], -1)
            extra = {"cross_attention_states": states, "cross_attention_mask": mask}
        hidden = inner(input_ids=ids, use_cache=False, **extra).last_hidden_state
        learned = labels != IGNORE
        logits, target, weight = self.model.lm_head(hidden[learned]), labels[learned], weights[learned]
        loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
        aside = self._aside(batch)
        guess = logits.argmax(-1) == target
        shown = deciding[learned] if deciding.any() else weight > 1 if (weight > 1).any() else weight > 0
        self.told = {"loss": loss.item(), "right": guess[shown].float().mean().item(), "aids": aside.item()}
        return loss + seeing + aside

    def _aside(self, batch: Batch) -> Tensor:
        """The loss of the text layers' heads, where the batch tells what is true."""
        states = self._watch.states
        mentions = [mention for number, row in enumerate(batch.rows) for mention in row.mentions(number)]
        if batch.kind == "duels":
            return self.aids.faults(states, mentions, list(batch.scenes)) if mentions else torch.zeros(())
        if not batch.questions or batch.kind == "captions":
            return torch.zeros(())
        lasts: list[Last] = []
        if batch.kind in ("answers", "endings"):
            for number, (row, question) in enumerate(zip(batch.rows, batch.questions, strict=True)):
                lasts += row.lasts(number, question)
        loss = self.aids.lasts(states, lasts) if lasts else torch.zeros(())
        if mentions and batch.kind in ("answers", "checks"):
            loss = loss + self.aids.questions(states, mentions, list(batch.questions))
        return loss
