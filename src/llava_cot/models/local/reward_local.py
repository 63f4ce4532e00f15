"""A reward model from a folder: a sequence classifier with one label, or a process reward model.

One background loop loads the network and runs it, on all the conversations that wait.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.background import BackgroundLoop
from llava_cot.models.base import Message, Prompt, Reward, too_long
from llava_cot.models.hub import REWARD_HEAD
from llava_cot.models.local.adapters import apply_adapters
from llava_cot.models.local.chat_template import check_template, render_bounded
from llava_cot.models.local.checkpoint import (
    Placement,
    failing_with,
    first_sentence,
    load_config,
    load_processor,
    load_weights,
    place,
    quiet,
)
from llava_cot.models.local.config_fields import check_described
from llava_cot.models.local.devices import device_of
from llava_cot.models.local.encoding import PER_TOKEN, Encoder
from llava_cot.models.local.plain_text import PlainText
from llava_cot.models.local.reward_head import open_headed

_ROWS = 16
# Requests made at the same time arrive within this; it is negligible next to a pass of the network.
_SECONDS = 0.002
STEP_ENDS = "step_ends"

Inputs = dict[str, Tensor]
_Values = tuple[float, ...]  # of an answer's steps, or one of the whole
_Waiting = tuple[Inputs, asyncio.Future[_Values]]


@dataclass(frozen=True)
class _Network:
    """A reward model that is loaded; `encode` makes one row of inputs from a conversation.

    `pad` is None where the model cannot tell padding from text, so that rows run one by one. In the rows of a
    process reward model, `STEP_ENDS` are where its steps end.
    """

    model: Any
    encode: Callable[[tuple[Message, ...]], Inputs]
    pad: int | None
    context: int


class LocalReward:
    """A checkpoint in a folder, as a `llava_cot.models.base.RewardModel`.

    Images are read if the checkpoint has a processor for them, else left out. A reward does not depend on
    what else is requested at the same time. The options are those of `open_reward`. Raises ModelError if the
    checkpoint cannot be opened, or is no reward model.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        adapters: Sequence[Path] = (),
        device: str = "auto",
        dtype: str = "auto",
        **hardware: str | None,
    ) -> None:
        self.name = name or folder.resolve().name
        self._waiting: list[_Waiting] = []
        self._loop = BackgroundLoop("llava-cot rewards", patience=None)
        self._network = self._loop.open(_open(folder, place(device, dtype, **hardware), adapters))

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        return await self._loop.run(self._reward((*prompt.messages, Message("assistant", answer))))

    async def _reward(self, messages: tuple[Message, ...]) -> Reward:
        row = self._network.encode(messages)
        tokens = row["input_ids"].shape[1]
        if tokens > self._network.context:
            raise too_long(self.name, tokens, self._network.context)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Values] = loop.create_future()
        self._waiting.append((row, future))
        if len(self._waiting) == 1:
            loop.call_later(_SECONDS, self._run)
        values = await future
        if wrong := [value for value in values if not math.isfinite(value)]:
            raise ModelFailure(f"the reward model {self.name} gave the value {wrong[0]}, which is no reward")
        return Reward(values[-1], tokens, steps=values if STEP_ENDS in row else ())

    def _run(self) -> None:
        """Run some of the conversations that wait. What fails fails them: no caller waits for ever."""
        taken, self._waiting = self._waiting, []
        try:
            taken, self._waiting = self._alike([pair for pair in taken if not pair[1].done()])
            values = _values(self._network, [row for row, _ in taken]) if taken else []
            for (_, future), found in zip(taken, values, strict=True):
                future.set_result(found)
        except Exception as error:
            failure = ModelFailure(f"the reward model {self.name} failed: {first_sentence(error)}")
            for _, future in taken:
                if not future.done():
                    future.set_exception(failure)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)

    def _alike(self, waiting: list[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
        """What has waited longest, with what has the most similar lengths; and the rest."""
        if not waiting:
            return [], []
        first, _ = waiting[0]
        length = first["input_ids"].shape[1]
        alike = sorted(
            (pair for pair in waiting if pair[0].keys() == first.keys()),
            key=lambda pair: abs(pair[0]["input_ids"].shape[1] - length),
        )[: 1 if self._network.pad is None else _ROWS]
        taken = {id(future) for _, future in alike}
        return alike, [pair for pair in waiting if id(pair[1]) not in taken]

    def close(self) -> None:
        """Stop; what is running fails. The model cannot be used again."""
        self._loop.close()


async def _open(folder: Path, where: Placement, adapters: Sequence[Path]) -> _Network:
    if (folder / REWARD_HEAD).is_file():
        headed = open_headed(folder, where, adapters)
        return _Network(headed.model, headed.encode, headed.pad, headed.context)
    config = load_config(folder)
    if any(name.endswith("ForTokenClassification") for name in config.architectures or ()):
        return _open_steps(folder, config, where, adapters)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or config.num_labels != 1:
        kind = (config.architectures or [config.model_type])[0]
        raise ModelError(
            f"{folder} is no reward model but a {kind} with {config.num_labels} labels; "
            "give a sequence-classification checkpoint with one label"
        )
    encode: Callable[[tuple[Message, ...]], Inputs]
    if hasattr(config, "vision_config"):
        _, processor = load_processor(folder)
        tokenizer = processor.tokenizer
        encode = Encoder(processor, config, double_bos=False).conversation_tensors
    else:
        tokenizer = _tokenizer(folder)
        encode = _text_encoder(tokenizer)
    model = load_weights(AutoModelForSequenceClassification, folder, config, where)
    if adapters:
        model = apply_adapters(model, adapters, merge=True)
    text = model.config.get_text_config()
    if text.pad_token_id is None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        text.pad_token_id = tokenizer.pad_token_id  # by which the network finds the end of a row
    pad = text.pad_token_id if (text.pad_token_id or 0) >= 0 else None
    return _Network(model, encode, pad, getattr(text, "max_position_embeddings", None) or 2**31)


def _open_steps(folder: Path, config: Any, where: Placement, adapters: Sequence[Path]) -> _Network:
    """A process reward model as TRL's PRMTrainer leaves it, which reads text alone."""
    if config.num_labels not in (1, 2):
        raise ModelError(
            f"{folder} has {config.num_labels} labels; a process reward model has two (wrong, right) or one"
        )
    tokenizer = _tokenizer(folder, templated=False)
    model = load_weights(AutoModelForTokenClassification, folder, config, where)
    if adapters:
        model = apply_adapters(model, adapters, merge=True)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
    return _Network(model, _step_encoder(tokenizer), tokenizer.pad_token_id or 0, context)


def _step_encoder(tokenizer: Any) -> Callable[[tuple[Message, ...]], Inputs]:
    """The question, and the paragraphs of the answer. A line break ends each, where its number is read."""
    plain = PlainText(tokenizer)

    def encode(messages: tuple[Message, ...]) -> Inputs:
        *turns, answer = [plain.mark(message.text) for message in messages]
        ids = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        ids += plain.encode("\n".join(turns))
        separator, ends = plain.encode("\n"), []
        for step in re.split(r"\n\s*\n", answer.strip()):
            ids += [*plain.encode(step.strip()), *separator]
            ends.append(len(ids) - 1)
        row = torch.tensor([ids])
        return {"input_ids": row, "attention_mask": torch.ones_like(row), STEP_ENDS: torch.tensor([ends])}

    return encode


def _tokenizer(folder: Path, templated: bool = True) -> Any:
    try:
        with quiet():
            found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        check_described(folder)
        raise ModelError(
            f"{folder} has no tokenizer that can be loaded ({first_sentence(error)}); "
            "add the files of the original checkpoint"
        ) from None
    if not templated:
        return found
    if not found.chat_template:
        raise ModelError(
            f"{folder} has no chat template; add the chat_template.jinja of the original checkpoint"
        )
    check_template(folder, found.chat_template)
    return found


def _text_encoder(tokenizer: Any) -> Callable[[tuple[Message, ...]], Inputs]:
    plain = PlainText(tokenizer)

    def encode(messages: tuple[Message, ...]) -> Inputs:
        turns = [
            {"role": m.role, "content": plain.mark(m.text, answer=m.role == "assistant")} for m in messages
        ]
        with failing_with("the chat template cannot take the prompt"):
            text = render_bounded(lambda: tokenizer.apply_chat_template(turns, tokenize=False))
        # The template includes the special tokens, as in the examples of reward models' own pages.
        ids = torch.tensor([plain.encode(text)])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return encode


def _values(network: _Network, rows: list[Inputs]) -> list[_Values]:
    """The rewards of rows that run together, padded on the right, where no token before can see it."""
    width = max(row["input_ids"].shape[1] for row in rows)
    batch = {}
    for name in rows[0].keys() - {STEP_ENDS}:
        parts = [row[name] for row in rows]
        if name in PER_TOKEN:
            fill = network.pad or 0 if name == "input_ids" else 0
            shapes = [(0, 0) * (part.ndim - 2) + (0, width - part.shape[1]) for part in parts]
            parts = [
                torch.nn.functional.pad(part, shape, value=fill)
                for part, shape in zip(parts, shapes, strict=True)
            ]
        whole = torch.cat(parts)
        dtype = network.model.dtype if whole.is_floating_point() else whole.dtype
        batch[name] = whole.to(device_of(network.model), dtype)
    with torch.inference_mode():
        logits: Tensor = network.model(**batch).logits
    if STEP_ENDS not in rows[0]:
        return [(float(value),) for value in logits.float().reshape(len(rows))]
    found = [logit[row[STEP_ENDS][0]].float() for logit, row in zip(logits, rows, strict=True)]
    return [tuple((one.softmax(-1) if one.shape[-1] == 2 else one)[:, -1].tolist()) for one in found]
