"""What is trained: mini with its heads, the loss of one batch, and where the projector starts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MllamaForConditionalGeneration

from llava_cot.scenes.world import Scene
from research.mini.heads import (
    DECIDING_LAYER,
    LOOKING_LAYER,
    READING_LAYER,
    WIDTHS,
    LayerOutput,
    OptionHead,
    QuestionHeads,
    VisionHeads,
    patches,
)
from research.mini.pictures import Pool
from research.mini.rows import IGNORE, Row, Rows

SEEING = 0.2  # the weight of the picture encoder's own loss, once there is text to learn


@dataclass(frozen=True)
class Batch:
    """Rows of one kind, with the scene and the pixels of each. A batch of the kind "seeing" has no rows."""

    kind: str
    scenes: Sequence[Scene]
    pixels: dict[str, Tensor]
    rows: Sequence[Row] = ()


class Learner(nn.Module):
    """Mini-base with its heads. After each pass, `metrics` has the numbers to log, by name."""

    def __init__(self, model: MllamaForConditionalGeneration, rows: Rows):
        super().__init__()
        self.model, self.vision_heads = model, VisionHeads()
        self.question_heads = nn.ModuleDict({"perception": QuestionHeads(), "texts": QuestionHeads()})
        self.option_head = OptionHead()
        self._rows = rows
        layers = model.model.language_model.layers
        self._outputs = {
            "perception": LayerOutput(layers[LOOKING_LAYER]),
            "texts": LayerOutput(layers[READING_LAYER]),
        }
        self._deciding = LayerOutput(layers[DECIDING_LAYER])
        self.metrics: dict[str, float] = {}

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        if batch.kind == "seeing":
            output = self.model.model.vision_model(**batch.pixels).last_hidden_state
            loss, self.metrics = self.vision_heads.loss(patches(output), batch.scenes)
            return loss
        return self._text_loss(batch)

    def _text_loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the learned tokens, and the heads' losses."""
        ids, labels = self._rows.tensors(batch.rows)
        inner: Any = self.model.model
        extra: dict[str, Tensor] = {}
        heads = torch.zeros(())
        if batch.rows[0].example.picture:
            output = inner.vision_model(**batch.pixels).last_hidden_state
            heads = SEEING * self.vision_heads.loss(patches(output), batch.scenes)[0]
            mask = torch.ones(*ids.shape, 1, 1, dtype=torch.long)
            mask[:, : len(self._rows.start)] = 0  # what comes before the image token
            states = inner.multi_modal_projector(output).reshape(len(ids), output.shape[-2], -1)
            extra = {"cross_attention_states": states, "cross_attention_mask": mask}
        hidden = inner(input_ids=ids, use_cache=False, **extra).last_hidden_state
        learned = labels != IGNORE
        logits, target = self.model.lm_head(hidden[learned]), labels[learned]
        loss = F.cross_entropy(logits, target)
        self.metrics = {"loss": loss.item(), "right": (logits.argmax(-1) == target).float().mean().item()}
        if batch.kind in self.question_heads:
            found: Any = self.question_heads[batch.kind]
            for loss_of_heads, metrics in (
                found.loss(self._outputs[batch.kind].states, batch.rows, batch.scenes),
                self.option_head.loss(self._deciding.states, batch.rows),
            ):
                heads = heads + loss_of_heads
                self.metrics |= metrics
        return loss + heads


@torch.no_grad()
def ground(
    model: MllamaForConditionalGeneration, heads: VisionHeads, pool: Pool, pictures: int = 512
) -> None:
    """Start the projector from what the vision heads read, and draw the cross-attention's projections anew.

    The first dimensions of the projected picture are the heads' standardized logits (place, color, shape,
    size, material), the rest are the encoder's principal components, whitened. From a random projector all
    keys of a picture look alike after their norm: a model of this size learned nothing from pictures in
    30,000 answers.
    """
    inner: Any = model.model
    indices = random.Random(0).sample(range(len(pool)), min(pictures, len(pool)))
    features = torch.cat(
        [
            patches(inner.vision_model(**pool.batch(indices[i : i + 64])).last_hidden_state).flatten(0, 1)
            for i in range(0, len(indices), 64)
        ]
    )
    mean = features.mean(0)
    readers = cast(list[nn.Linear], list(heads.heads.values()))
    read = torch.cat([head.weight for head in readers])
    weight = read / ((features - mean) @ read.T).std(0)[:, None]
    rest = inner.multi_modal_projector.out_features - len(weight)
    _, scale, directions = torch.linalg.svd(features - mean, full_matrices=False)
    components = directions[:rest] / (scale[:rest, None] / len(features) ** 0.5 + 0.05)
    weight = torch.cat([weight, 0.5 * components])
    inner.multi_modal_projector.weight.copy_(weight)
    inner.multi_modal_projector.bias.copy_(-weight @ mean)
    for layer in inner.language_model.layers:
        if hasattr(layer, "cross_attn"):
            layer.cross_attn_attn_gate.fill_(1.0)
            layer.cross_attn_mlp_gate.fill_(1.0)
            _aim(layer.cross_attn, sum(WIDTHS.values()))


def _aim(attention: Any, readable: int) -> None:
    """Let half of the attention heads start with keys of places alone and values of attributes alone."""
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        nn.init.normal_(getattr(attention, part).weight, std=0.09)
    rows = attention.num_key_value_heads // 2 * attention.head_dim
    places = WIDTHS["place"]
    for projection, first, last in ((attention.k_proj, 0, places), (attention.v_proj, places, readable)):
        aimed = torch.zeros_like(projection.weight[:rows])
        nn.init.normal_(aimed[:, first:last], std=(last - first) ** -0.5)
        projection.weight[:rows] = aimed
