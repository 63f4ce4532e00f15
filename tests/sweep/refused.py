"""The types that are refused before their weights are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as t
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from sweep.parts import tokenizer
from sweep.registry import tiny_type


def _tokenizer() -> Any:
    named = {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    return tokenizer("|SPEAKER|", "|NEWLINE|", "<imgpad>", bos="<s>", eos="</s>", pad="<pad>", **named)


def _refuse(
    name: str, family: str, make: Callable[[Any], Any] = lambda found: found, *, needs: tuple[str, ...] = ()
) -> None:
    """Register a type; `make` makes its processor of a tokenizer."""
    tiny_type(name, family=family, needs=needs, refused=True)(
        lambda: (CONFIG_MAPPING[name](), make(_tokenizer()))
    )


# Encoders with decoders, and models that write otherwise.
_refuse("florence2", "Florence-2")
_refuse("pix2struct", "Pix2Struct")
_refuse("pp_formulanet", "PP-FormulaNet")
_refuse("t5gemma2", "T5Gemma 2")
_refuse("udop", "UDOP")
_refuse("diffusion_gemma", "DiffusionGemma")
_refuse("pi0", "π0")

# Models that read no pictures.
_refuse("evolla", "Evolla")
_refuse("mistral4", "Mistral Small 4 (text)")

# Published without a chat template.
_refuse("blip", "BLIP", lambda found: t.BlipProcessor(t.BlipImageProcessorPil(), found))
_refuse("blip-2", "BLIP-2", lambda found: t.Blip2Processor(t.BlipImageProcessorPil(), found))
_refuse("chameleon", "Chameleon", lambda found: t.ChameleonProcessor(t.ChameleonImageProcessorPil(), found))
_refuse("fuyu", "Fuyu", lambda found: t.FuyuProcessor(t.FuyuImageProcessorPil(), found))
_refuse("git", "GIT", lambda found: t.GitProcessor(t.CLIPImageProcessorPil(), found))
_refuse("got_ocr2", "GOT-OCR 2", lambda found: t.GotOcr2Processor(t.GotOcr2ImageProcessorPil(), found))
_refuse("idefics", "IDEFICS", lambda found: t.IdeficsProcessor(t.IdeficsImageProcessorPil(), found))
_refuse(
    "instructblip",
    "InstructBLIP",
    lambda found: t.InstructBlipProcessor(t.BlipImageProcessorPil(), found, found),
)
_refuse(
    "instructblipvideo",
    "InstructBLIP for videos",
    lambda found: t.InstructBlipVideoProcessor(t.InstructBlipVideoVideoProcessor(), found, found),
    needs=("torchvision",),
)
_refuse("kosmos-2", "Kosmos-2", lambda found: t.Kosmos2Processor(t.CLIPImageProcessorPil(), found))
_refuse("kosmos-2.5", "Kosmos-2.5", lambda found: t.Kosmos2_5Processor(t.Kosmos2_5ImageProcessorPil(), found))


@tiny_type("vision-encoder-decoder", family="TrOCR, Donut", refused=True)
def vision_encoder_decoder() -> tuple[Any, Any]:
    parts = t.ViTConfig(), t.GPT2Config()
    return t.VisionEncoderDecoderConfig.from_encoder_decoder_configs(*parts), _tokenizer()
