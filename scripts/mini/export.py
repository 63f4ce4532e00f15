"""Writes a trained mini as an ordinary Hugging Face checkpoint, where the package finds it.

python scripts/mini/export.py --run RUN --name judge --out src/llava_cot/mini
"""

from __future__ import annotations

import argparse
from pathlib import Path

from build import build_model, build_processor
from common import load_weights
from transformers import GenerationConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path, default=Path("src/llava_cot/mini"))
    args = parser.parse_args()
    processor = build_processor()
    tokenizer = processor.tokenizer
    model = load_weights(build_model(processor), args.run / f"{args.name}.pt")
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
    )
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f"{args.out}: {size / 1e6:.1f} MB, {model.num_parameters() / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
