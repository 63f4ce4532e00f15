"""A reward model of our own kind: a vision-language model with a scalar head that scores an answer's steps.

The head reads a step's states and how likely its tokens were. A causal model predicts before it reads, so the
state after a step alone says little about whether the step was right.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.tags import find_tags
from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.hub import REWARD_HEAD
from llava_cot.models.local.checkpoint import Placement, load_checkpoint
from llava_cot.models.local.encoding import Encoder, extended

_NUMBERS = 4  # of a step's log-probabilities
_LEAST = -10.0  # nats of a token; a rarer one says no more
STEPS = "steps"  # of a row: the positions of the first and the last token of its last step


class RewardHead(nn.Module):
    """Scores steps from the states of a model and the log-probabilities of the tokens that it read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.inner = nn.Linear(2 * width + _NUMBERS, width)
        self.outer = nn.Linear(width, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor, logprobs: Tensor, steps: Tensor) -> Tensor:
        """The score of each step: [steps], a logit.

        Args:
            states: [rows, length, width].
            logprobs: [rows, length], of each token given what precedes it.
            steps: [steps, 3], the row of each step and the positions of its first and last token.
        """
        found = []
        for row, first, last in steps.tolist():
            likely = logprobs[row, first : last + 1].clamp(min=_LEAST)
            predicted, read = states[row, first - 1 : last].mean(0), states[row, last]
            numbers = torch.stack((likely.mean(), likely.min(), likely.sum() / 10, likely[-1]))
            found.append(torch.cat((self.norm(torch.cat((predicted, read)).float()), numbers)))
        scores: Tensor = self.outer(nn.functional.gelu(self.inner(torch.stack(found))))[:, 0]
        return scores


def step_scores(
    model: Any, head: RewardHead, inputs: dict[str, Tensor], steps: Tensor, takes_keep: bool
) -> Tensor:
    """Run a model on some rows and score steps of them; `takes_keep`: whether it takes `logits_to_keep`."""
    start = int(steps[:, 1].min()) - 1  # what predicts the first token that is scored
    keep = inputs["input_ids"].shape[1] - start
    limit = {"logits_to_keep": keep} if takes_keep else {}
    outputs = model(**inputs, **limit, output_hidden_states=True, use_cache=False)
    likely = torch.log_softmax(outputs.logits[:, -keep:-1].float(), -1)
    read = likely.gather(2, inputs["input_ids"][:, start + 1 :, None])[..., 0]
    scores: Tensor = head(outputs.hidden_states[-1], nn.functional.pad(read, (start + 1, 0)), steps)
    return scores


def step_bounds(text: str) -> list[tuple[int, int]]:
    """The steps of an answer so far, in characters: each closed stage, and what follows the last one."""
    ends = [tag.end for tag in find_tags(text, LLAVA_COT.pairs) if not tag.opens]
    if text[ends[-1] if ends else 0 :].strip():
        ends.append(len(text))
    return list(zip([0, *ends], ends, strict=False))


def token_bounds(encoder: Encoder, text: str, bounds: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first and the last token of parts of an answer, counted from its start."""
    marks = sorted({at for pair in bounds for at in pair})
    counts = {at: len(encoder.prefix_ids(Prompt((), prefix=text[:at]))) if at else 0 for at in marks}
    return [(counts[start], max(counts[start], counts[end] - 1)) for start, end in bounds]


class _Scored(nn.Module):
    """A model with its head, which gives one number for the last step of each row."""

    def __init__(self, model: Any, head: RewardHead) -> None:
        super().__init__()
        self.model, self.head = model, head
        self.config, self.dtype, self.device = model.config, model.dtype, model.device
        self._takes_keep = "logits_to_keep" in inspect.signature(model.forward).parameters

    def forward(self, **inputs: Tensor) -> Any:
        bounds = inputs.pop(STEPS)
        rows = torch.arange(len(bounds), device=bounds.device)[:, None]
        steps = torch.cat((rows, bounds), 1)
        scores = step_scores(self.model, self.head, inputs, steps, self._takes_keep)
        return SimpleNamespace(logits=scores[:, None])


@dataclass(frozen=True)
class HeadedReward:
    """A reward model with a head that is loaded."""

    model: nn.Module
    encoder: Encoder
    pad: int
    context: int

    def encode(self, messages: tuple[Message, ...]) -> dict[str, Tensor]:
        """The inputs of one row: a conversation up to the answer so far, without an end."""
        text = messages[-1].text
        encoded = self.encoder.encode(Prompt(messages[:-1], prefix=text))
        size = 0 if encoded.head is None else len(encoded.head.ids)
        tensors = {} if encoded.head is None else self.encoder.head_tensors(encoded)
        first, last = token_bounds(self.encoder, text, step_bounds(text)[-1:] or [(0, 0)])[0]
        begin = len(encoded.ids) - encoded.prefix_length
        step = torch.tensor([[begin + first, begin + last]])
        return extended(tensors, list(encoded.ids), size) | {STEPS: step}


def open_headed(folder: Path, where: Placement, adapters: Sequence[Path]) -> HeadedReward:
    """Open a reward model that `train` made with `objective: reward`. Raises ModelError."""
    if adapters:
        raise ModelError(f"{folder} is a reward model with a head of its own; open it without --adapter")
    loaded = load_checkpoint(
        folder,
        "auto" if where.device_map else str(where.device),
        str(where.dtype).removeprefix("torch."),
        device_map=where.device_map,
        quantize=where.quantize,
        attn=where.attn,
    )
    head = RewardHead(loaded.model.config.get_text_config().hidden_size).eval()
    try:
        head.load_state_dict(load_file(folder / REWARD_HEAD))
    except Exception as error:
        raise ModelError(f"{folder / REWARD_HEAD} does not fit its model; train it again") from error
    head = head.requires_grad_(False).to(where.device)
    encoder = Encoder(loaded.processor, loaded.model.config, double_bos=False)
    pad = loaded.processor.tokenizer.pad_token_id or 0
    return HeadedReward(_Scored(loaded.model, head), encoder, pad, loaded.context)
