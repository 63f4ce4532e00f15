"""Mini as an ordinary Hugging Face checkpoint, which `ask`, `serve` and any other tool can load."""

from __future__ import annotations

from pathlib import Path

from transformers import GenerationConfig, MllamaForConditionalGeneration, MllamaProcessor


def save_model(model: MllamaForConditionalGeneration, processor: MllamaProcessor, folder: Path) -> None:
    """Write weights, configuration, tokenizer and processor, with the paper's sampling as the default."""
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
