"""Answers of a model while it is trained, to see how it comes on.

Owns generation outside of the engine, whose caches would not see the weights change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llava_cot.data.record import Record
from llava_cot.train.encode import RowEncoder
from llava_cot.train.targets import Target, answer_text


@torch.no_grad()
def answers(
    model: Any, encoder: RowEncoder, records: Sequence[Record], target: Target, tokens: int, tokenizer: Any
) -> list[dict[str, Any]]:
    """The likeliest answer to the last question of each record, which draws no chance from training's."""
    was = model.training
    model.eval()
    written = []
    for record in records:
        row = encoder.prompt(record)
        inputs = {name: tensor.to(model.device) for name, tensor in row.inputs.items()}
        ids = model.generate(
            **inputs,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            max_new_tokens=tokens,
            use_cache=True,
        )
        text = tokenizer.decode(ids[0, row.length :], skip_special_tokens=True)
        turn = [turn for turn in record.turns if answer_text(turn, target)][-1]
        written.append(
            {"id": record.id, "question": turn.text, "text": text, "expected": answer_text(turn, target)}
        )
    model.train(was)
    return written
