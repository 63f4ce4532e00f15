"""Types that read documents: tiles and grids that the prompt spells, plain text models behind."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import chatml, template, text_size, token_ids, tokenizer, vision_size, without_video
from sweep.qwen import qwen_tokenizer, sections
from sweep.registry import tiny_type

_ROWS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))


@tiny_type("idefics3", family="Idefics3")
def idefics3() -> tuple[Any, Any]:
    found = tokenizer(
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
        "<global-img>",
        *_ROWS,
        bos="<|begin_of_text|>",
        eos="<end_of_utterance>",
        pad="<|pad|>",
    )
    images = t.Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
    )
    chat = template(
        begin="<|begin_of_text|>",
        system="System: {}<end_of_utterance>\n",
        user="User:{}<end_of_utterance>\n",
        assistant="Assistant: {}<end_of_utterance>\n",
        answer="Assistant:",
        image="<image>",
    )
    config = t.Idefics3Config(
        vision_config=vision_size(),
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        scale_factor=2,
        tie_word_embeddings=False,
        **token_ids(found, image_token_id="<image>"),
    )
    processor = t.Idefics3Processor(images, found, image_seq_len=4, chat_template=chat)
    return t.Idefics3ForConditionalGeneration(config), processor


@tiny_type("granite_docling", family="Granite Docling")
def granite_docling() -> tuple[Any, Any]:
    found = tokenizer(
        "<fake_token_around_image>",
        "<global-img>",
        "<|start_of_role|>",
        "<|end_of_role|>",
        *_ROWS,
        eos="<|end_of_text|>",
        pad="<|pad|>",
        image_token="<image>",
    )
    images = t.GraniteDoclingImageProcessorPil(size={"height": 16, "width": 16}, max_patches=4)
    turn = "<|start_of_role|>{}<|end_of_role|>{{}}<|end_of_text|>\n".format
    chat = template(
        system=turn("system"),
        user=turn("user"),
        assistant=turn("assistant"),
        answer="<|start_of_role|>assistant<|end_of_role|>",
        image="<image>",
    )
    vision = vision_size(
        num_hidden_layers=3, out_hidden_size=32, scale_factor=2, deepstack_visual_indexes=[0, 1]
    )
    config = t.GraniteDoclingConfig(
        vision_config=vision,
        text_config=text_size(
            found, embedding_multiplier=2.0, residual_multiplier=0.8, attention_multiplier=0.35
        ),
        pad_token_id=found.pad_token_id,
        **token_ids(found, image_token_id="<image>"),
    )
    processor = t.GraniteDoclingProcessor(images, found, image_seq_len=4, chat_template=chat)
    return t.GraniteDoclingForConditionalGeneration(config), processor


@tiny_type("ovis2", family="Ovis2")
def ovis2() -> tuple[Any, Any]:
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    found = tokenizer("<|im_start|>", "<image>", "<IMG_ATOM>", *marks, eos="<|im_end|>", pad="<|endoftext|>")
    images = t.Ovis2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    config = t.Ovis2Config(
        vision_config=vision_size(hidden_stride=2, vocab_size=24, num_visual_indicator_tokens=5),
        text_config=t.Qwen2Config(**text_size(found)),
        visual_indicator_token_ids=found.convert_tokens_to_ids(marks),
        vocab_size=len(found),
        hidden_size=32,
        **token_ids(found, image_token_id="<IMG_ATOM>"),
    )
    processor = t.Ovis2Processor(images, found, image_seq_length=4, chat_template=chatml("<image>\n"))
    return t.Ovis2ForConditionalGeneration(config), processor


@tiny_type("qianfan_ocr", family="Qianfan-OCR")
def qianfan_ocr() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>",
        "<image>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
    )
    images = t.GotOcr2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=3
    )
    config = t.QianfanOCRConfig(
        vision_config=vision_size(layer_scale_init_value=0.5),
        text_config=t.Qwen3Config(**text_size(found, head_dim=8, tie_word_embeddings=False)),
        image_seq_length=4,
        **token_ids(found, image_token_id="<IMG_CONTEXT>"),
    )
    processor = t.QianfanOCRProcessor(images, found, image_seq_length=4, chat_template=chatml("<image>\n"))
    return t.QianfanOCRForConditionalGeneration(config), processor


@tiny_type("lighton_ocr", family="LightOnOCR")
def lighton_ocr() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        image_token="<|image_pad|>",
        image_break_token="<|vision_pad|>",
        image_end_token="<|vision_end|>",
    )
    config = t.LightOnOcrConfig(
        vision_config=t.PixtralVisionConfig(**vision_size(image_size=32, head_dim=8)),
        text_config=t.Qwen3Config(**text_size(found, head_dim=8)),
        spatial_merge_size=2,
        **token_ids(found, image_token_id="<|image_pad|>"),
    )
    processor = t.LightOnOcrProcessor(
        t.PixtralImageProcessorPil(size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}),
        found,
        patch_size=4,
        spatial_merge_size=2,
        chat_template=chatml("<|image_pad|>"),
    )
    return t.LightOnOcrForConditionalGeneration(config), processor


@tiny_type("paddleocr_vl", family="PaddleOCR-VL")
def paddleocr_vl() -> tuple[Any, Any]:
    found = tokenizer(
        "<|IMAGE_START|>",
        "<|IMAGE_END|>",
        "<|begin_of_sentence|>",
        bos="<s>",
        eos="</s>",
        pad="<unk>",
        image_token="<|IMAGE_PLACEHOLDER|>",
        video_token="<|video_pad|>",
    )
    images = t.PaddleOCRVLImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 8 * 64}, patch_size=4, merge_size=2
    )
    chat = template(
        begin="<|begin_of_sentence|>",
        system="{}\n",
        user="User: {}\n",
        assistant="Assistant:\n{}</s>",
        answer="Assistant:\n",
        image="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        images_first=True,
    )
    config = t.PaddleOCRVLConfig(
        vision_config=vision_size(image_size=16),
        text_config=text_size(found, head_dim=8, rope_parameters=sections(1, 1, 2)),
        **token_ids(
            found,
            image_token_id="<|IMAGE_PLACEHOLDER|>",
            video_token_id="<|video_pad|>",
            vision_start_token_id="<|IMAGE_START|>",
            vision_end_token_id="<|IMAGE_END|>",
        ),
    )
    return (
        t.PaddleOCRVLForConditionalGeneration(config),
        t.PaddleOCRVLProcessor(images, found, chat_template=chat),
    )


@tiny_type("video_llama_3", family="VideoLLaMA 3")
def video_llama_3() -> tuple[Any, Any]:
    found = qwen_tokenizer()
    images = t.VideoLlama3ImageProcessorPil(size={"shortest_edge": 16, "longest_edge": 24 * 16}, patch_size=4)
    config = t.VideoLlama3Config(
        vision_config=vision_size(),
        text_config=t.Qwen2Config(**text_size(found)),
        tie_word_embeddings=True,
        **token_ids(found, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
    )
    processor = without_video(t.VideoLlama3Processor)(images, found, chat_template=chatml("<|image_pad|>\n"))
    return t.VideoLlama3ForConditionalGeneration(config), processor


@tiny_type("hunyuan_vl", family="HunyuanOCR")
def hunyuan_vl() -> tuple[Any, Any]:
    found = tokenizer(
        "<|hy_User|>",
        "<|hy_Assistant|>",
        "<|newline|>",
        bos="<|hy_begin|>",
        eos="<|hy_end|>",
        pad="<|hy_pad|>",
        image_start_token="<|hy_image_start|>",
        image_end_token="<|hy_image_end|>",
        image_token="<|hy_image|>",
    )
    images = t.HunYuanVLImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 8 * 64}, patch_size=4, merge_size=2
    )
    chat = template(
        begin="<|hy_begin|>",
        system="{}<|newline|>",
        user="{}<|hy_User|>",
        assistant="{}<|hy_Assistant|>",
        answer="",
        image="<|hy_image_start|><|hy_image|><|hy_image_end|>",
    )
    rope = {
        "rope_type": "xdrope",
        "alpha": 1000.0,
        "factor": 1.0,
        "mrope_section": [1, 1, 1, 1],
        "rope_theta": 1e4,
    }
    config = t.HunYuanVLConfig(
        vision_config=vision_size(out_hidden_size=32, spatial_merge_size=2, max_image_size=16),
        text_config=text_size(found, head_dim=8, rope_parameters=rope),
        **token_ids(
            found,
            image_token_id="<|hy_image|>",
            im_start_id="<|hy_image_start|>",
            im_end_id="<|hy_image_end|>",
            im_newline_id="<|newline|>",
        ),
    )
    return t.HunYuanVLForConditionalGeneration(config), t.HunYuanVLProcessor(
        images, found, chat_template=chat
    )


@tiny_type(
    "pp_chart2table",
    family="PP-Chart2Table",
    without={"no picture": "its processor takes no text without a picture"},
)
def pp_chart2table() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>", "<img>", "</img>", eos="<|im_end|>", pad="<|endoftext|>", image_token="<imgpad>"
    )
    default = (
        "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in detail."
        "<|im_end|>\n"
    )
    image = "<img>" + "<imgpad>" * 16 + "</img>\n"
    config = t.PPChart2TableConfig(
        vision_config=vision_size(
            image_size=64, output_channels=16, mlp_dim=32, window_size=4, global_attn_indexes=[1]
        ),
        text_config=t.Qwen2Config(**text_size(found)),
        image_seq_length=16,
        **token_ids(found, image_token_index="<imgpad>"),
    )
    processor = t.PPChart2TableProcessor(
        t.PPChart2TableImageProcessorPil(size={"height": 64, "width": 64}),
        found,
        chat_template=chatml(image, default_system=default, images_first=True),
    )
    return t.GotOcr2ForConditionalGeneration(config), processor
