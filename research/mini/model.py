"""Mini before training, and as a checkpoint: its configuration, tokenizer, chat template and processor.

The tokenizer is byte-level BPE, trained on the scenes' own language, so it can encode any text. Stage tags
and the constant sentences of the judge's prompts are one token each: a small model would otherwise spend most
of its time on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from llava_cot.core.stages import LLAVA_COT
from llava_cot.scenes.questions import BRITISH, ask_about
from llava_cot.scenes.teacher import teach
from llava_cot.scenes.world import draw_scene, scene_rng
from llava_cot.search.judge_prompts import default_prompts
from research.mini.examples import description, text_question
from research.mini.pictures import IMAGE_SIZE

PATCH = 12
CONTEXT = 2048
SPECIAL = ("<|pad|>", "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>")
IMAGE = "<|image|>"
CHAT_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|assistant|>' if message.role == 'assistant' else '<|user|>' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for part in message.content %}"
    "{{- '<|image|>' if part.type == 'image' else part.text }}"
    "{%- endfor %}{%- endif %}"
    "{%- if message.role == 'assistant' %}{{- eos_token }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
# The number of scenes whose texts the tokenizer is made from.
_TEXTS = 3000
# Words of the judge's replies and checks, which the scenes' own answers do not contain.
_MORE_WORDS = (
    " Describe the picture. Since both fit the question, I choose response 1. Since response 2 fits the "
    "question, I choose response 2. "
    "Since the reasoning says so, it has the wrong answer. Every step holds. Verdict: correct. "
    "Verdict: incorrect. "
    "Which picture shows what is better or worse? Who, why, when and where are they, this, that, these, "
    "those, it gives the answer away, both agree with the picture, neither does, think describe image photo "
    "answer with a single word or number please "
)


def _corpus() -> Iterator[str]:
    for index in range(_TEXTS):
        rng = scene_rng("train", 1, index, "hard")
        scene = draw_scene(rng, "hard")
        question = ask_about(scene, rng, difficulty="hard")
        stages = teach(scene, question).values()
        yield "\n".join([question.text, *question.options, *stages, *(f" {text}" for text in stages)])
        for example in (description(scene, rng), text_question(scene, rng)):
            yield f"{example.prompt}\n{example.reply}"
    for _ in range(50):
        yield _MORE_WORDS


def build_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    # A question may say "colour" or "color": its tokens are the same.
    core.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(pattern), replacement) for pattern, replacement in BRITISH]
    )
    words = Regex(r" ?\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]|\s+(?!\S)|\s")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=20,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    core.train_from_iterator(_corpus(), trainer)
    # As `core.stages.render` writes them: a space before a closing tag, a blank line after it.
    tags = ["\n\n", *(tag for stage in LLAVA_COT.stages for tag in (stage.open, f" {stage.close}"))]
    core.add_tokens(
        [
            AddedToken(text, special=False, normalized=False)
            for text in (*default_prompts().constant_pieces(), *tags)
        ]
    )
    core.add_special_tokens(
        [AddedToken(IMAGE, special=True, normalized=False)]
    )  # last: the output layer has no row for it
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", IMAGE],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_processor() -> MllamaProcessor:
    image_processor = MllamaImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        max_image_tiles=1,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    )
    return MllamaProcessor(  # type: ignore[no-untyped-call]
        image_processor, build_tokenizer(), chat_template=CHAT_TEMPLATE
    )


def build_model(processor: MllamaProcessor) -> MllamaForConditionalGeneration:
    tokenizer = processor.tokenizer
    image_id = tokenizer.convert_tokens_to_ids(IMAGE)
    assert image_id == len(tokenizer) - 1
    vision = MllamaVisionConfig(
        hidden_size=128,
        num_hidden_layers=3,
        num_global_layers=1,
        attention_heads=4,
        intermediate_size=384,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        max_num_tiles=1,
        supported_aspect_ratios=[[1, 1]],
        intermediate_layers_indices=[1],
        vision_output_dim=256,
        initializer_range=0.06,
    )
    text = MllamaTextConfig(
        vocab_size=image_id,
        hidden_size=128,
        num_hidden_layers=7,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=352,
        cross_attention_layers=[2, 4],
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.06,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = MllamaForConditionalGeneration(
        MllamaConfig(vision_config=vision, text_config=text, image_token_index=image_id)
    )
    with torch.no_grad():
        # What a token is must not be drowned by what the layers add to it.
        model.model.language_model.embed_tokens.weight.normal_(std=0.5)
        # Trained from nothing: a gate at zero would keep the picture out for long.
        for name, parameter in model.named_parameters():
            if "gate" in name and parameter.numel() == 1 and "tile" not in name and "positional" not in name:
                parameter.fill_(1.0)
    return model


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
