"""A Mllama of real cost that was never trained and still writes staged answers, to measure speed on.

Its weights are random, but what its layers add to a token's embedding is scaled down until it no longer
matters, and its output layer answers each token with the tokens that follow it in a script. So it recites:
four stages, each of `WORDS` words and each word one of two that are equally likely, then the end. Every
matrix product is as large as if it knew what it says. Whatever the prompt, a judge's question too, it
recites the same, so its verdicts choose nothing.

    python benchmarks/random_mllama.py FOLDER
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.utils import logging

from llava_cot.core.stages import LLAVA_COT
from llava_cot.models.registry import MINI
from llava_cot.scenes.items import make_item
from llava_cot.search.judge_prompts import default_prompts

CHAT_TEMPLATE = (MINI / "chat_template.jinja").read_text(encoding="utf-8")
BEGIN, USER, ASSISTANT, END, PAD, IMAGE = (
    "<|begin|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|pad|>",
    "<|image|>",
)
CONTEXT = 2048
SURENESS = 25.0  # logit of a token that follows; every other token's is about 0 (standard deviation 1)
WHISPER = 1e-3  # scale of what a layer adds to the embedding


@dataclass(frozen=True)
class Size:
    """`words` is the number of words in a stage; the other names are those of the configuration."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    cross_layers: tuple[int, ...]
    heads: int
    kv_heads: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    image_size: int
    patch: int
    words: int


# 80 million parameters. Every fifth layer reads the picture, as in Llama 3.2 Vision; its picture has 1,601
# tokens a tile and 4 tiles, this one's 257 and 2. A stage has 24 words, about as many as mini's.
LARGE = Size(8192, 640, 1728, 10, (3, 8), 10, 2, 512, 6, 8, 224, 14, 24)
# Runs in milliseconds, for tests.
TINY = Size(600, 32, 48, 3, (1,), 4, 2, 24, 2, 2, 28, 14, 3)


def make_random(folder: Path, size: Size = LARGE, seed: int = 0) -> Path:
    """Write the checkpoint with its processor, as a user's would be; returns the folder."""
    logging.disable_progress_bar()
    processor = _processor(size, seed)
    model = _model(processor, size, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _syllables(rng: random.Random) -> str:
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))


def _corpus(count: int, seed: int) -> Iterator[str]:
    """Judges' prompts, questions about scenes, and made-up words, which fill the vocabulary."""
    rng = random.Random(seed)
    made_up = {_syllables(rng) for _ in range(count)}
    for word in sorted(made_up):
        yield f" {word} {word}"
    for index in range(200):
        yield make_item("train", seed, index).question.text
        yield " ".join(default_prompts().constant_pieces())


def make_tokenizer(size: Size, seed: int) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tags = _tag_pieces()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary - len(tags),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PAD, BEGIN, USER, ASSISTANT, END],
        show_progress=False,
    )
    core.train_from_iterator(_corpus(3 * size.vocabulary, seed), trainer)
    core.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in tags])
    core.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, IMAGE],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    assert tokenizer.convert_tokens_to_ids(IMAGE) == size.vocabulary
    return tokenizer


def _tag_pieces() -> list[str]:
    """Opening tags are one token and closing tags two, all of them different."""
    return [piece for stage in LLAVA_COT.stages for piece in (stage.open, *_halves(stage.close))]


def _halves(tag: str) -> tuple[str, str]:
    return tag[: len(tag) // 2], tag[len(tag) // 2 :]


def _processor(size: Size, seed: int) -> MllamaProcessor:
    pictures = MllamaImageProcessorPil(
        size={"height": size.image_size, "width": size.image_size}, max_image_tiles=2
    )
    return MllamaProcessor(pictures, make_tokenizer(size, seed), chat_template=CHAT_TEMPLATE)


def script(tokenizer: PreTrainedTokenizerFast, words: int, seed: int) -> list[tuple[str, ...]]:
    """The tokens that are equally likely at each place, from the end of the prompt to the end."""
    vocabulary = sorted(
        t for t in tokenizer.get_vocab() if t.startswith("Ġ") and t[1:].isalpha() and len(t) > 4
    )
    drawn = iter(random.Random(seed).sample(vocabulary, 2 * words * len(LLAVA_COT.stages)))
    places: list[tuple[str, ...]] = [(ASSISTANT,)]
    for stage in LLAVA_COT.stages:
        places.append((stage.open,))
        places += [(next(drawn), next(drawn)) for _ in range(words)]
        places += [(piece,) for piece in _halves(stage.close)]
    return [*places, (END,)]


def _model(processor: MllamaProcessor, size: Size, seed: int) -> Any:
    tokenizer = processor.tokenizer
    vision = MllamaVisionConfig(
        hidden_size=size.vision_hidden,
        num_hidden_layers=size.vision_layers,
        num_global_layers=2,
        attention_heads=size.vision_heads,
        intermediate_size=4 * size.vision_hidden,
        image_size=size.image_size,
        patch_size=size.patch,
        max_num_tiles=2,
        supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]],
        intermediate_layers_indices=[0, size.vision_layers - 1],
        vision_output_dim=3 * size.vision_hidden,
    )
    text = MllamaTextConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        intermediate_size=size.intermediate,
        cross_attention_layers=list(size.cross_layers),
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model: Any = MllamaForConditionalGeneration(
        MllamaConfig(vision_config=vision, text_config=text, image_token_index=size.vocabulary)
    )
    recite(
        model,
        [tokenizer.convert_tokens_to_ids(list(place)) for place in script(tokenizer, size.words, seed)],
    )
    return model.eval()


@torch.no_grad()
def recite(model: Any, script: list[list[int]]) -> None:
    """Quieten the layers of the text model, and teach the output layer the script."""
    language = getattr(model.model, "language_model", None) or model.model.text_model
    for name, parameter in language.layers.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.mul_(WHISPER)
        elif name.endswith("gate"):
            parameter.fill_(1.0)
    embedding = language.embed_tokens.weight
    embedding.normal_()
    keys = embedding / embedding.norm(dim=1, keepdim=True)
    head = model.lm_head.weight
    root = head.shape[1] ** 0.5  # the norm of what the last layer gives
    head.normal_(std=1 / root)
    for before, after in pairwise(script):
        head[after] = SURENESS / root * keys[before].sum(dim=0)


def main() -> None:
    [folder] = sys.argv[1:]
    made = make_random(Path(folder))
    print(made, file=sys.stderr)


if __name__ == "__main__":
    main()
