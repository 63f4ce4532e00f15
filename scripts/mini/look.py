"""How far mini has come: greedy and sampled answers to validation questions, by plain `generate`.

python scripts/mini/look.py --run RUN --name answers --count 200
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from build import build_model, build_processor
from common import load_weights, vision_inputs
from pictures import small
from rows import Rows

from examples import question_text
from llava_cot.scenes.write import make_item
from llava_cot.stages import parse


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    processor = build_processor()
    model = load_weights(build_model(processor), args.run / f"{args.name}.pt").eval()
    tokenizer, rows = processor.tokenizer, Rows(processor.tokenizer)
    items = [make_item("validation", 0, i) for i in range(args.count)]
    prompts = [
        [*rows.start, rows.image, *tokenizer(question_text(item.question)).input_ids, rows.assistant]
        for item in items
    ]
    longest = max(map(len, prompts))
    ids = torch.tensor([[rows.pad] * (longest - len(p)) + p for p in prompts])
    inputs = vision_inputs(torch.from_numpy(np.stack([small(item.picture()) for item in items])))
    cross = (ids == rows.image).cumsum(1)[:, :, None, None]
    for temperature in (0.0, 0.6):
        torch.manual_seed(0)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_p": 0.9, "top_k": 0}
            if temperature
            else {"do_sample": False}
        )
        output = model.generate(
            input_ids=ids, attention_mask=(ids != rows.pad).long(), cross_attention_mask=cross,
            max_new_tokens=160, pad_token_id=rows.pad, eos_token_id=rows.end, **inputs, **sampling,
        )  # fmt: skip
        right: dict[str, list[bool]] = defaultdict(list)
        for item, tokens in zip(items, output[:, longest:], strict=True):
            answer = parse(tokenizer.decode(tokens, skip_special_tokens=True))
            right["all"].append(answer.stages["conclusion"] == item.answer)
            right["caption"].append(answer.stages["caption"] == item.stages["caption"])
            right["reasoning given caption"] += [
                answer.stages["reasoning"] == item.stages["reasoning"]
            ] * right["caption"][-1]
            right[item.question.type].append(right["all"][-1])
        print(
            f"temperature {temperature}:",
            " ".join(f"{k} {100 * sum(v) / len(v):.0f}" for k, v in right.items() if v),
        )


if __name__ == "__main__":
    main()
