"""Mistral Large 4 and MiniMax M3: attention to the tokens that an indexer chooses."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.others import mistral_processor, mistral_tokenizer
from sweep.parts import text_size, token_ids, tokenizer, vision_size
from sweep.registry import tiny_type


@tiny_type("mistral_large4", family="Mistral Large 4", needs=("torchvision",))
def mistral_large4() -> tuple[Any, Any]:
    found = mistral_tokenizer()
    text = text_size(
        found,
        num_hidden_layers=4,
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        index_topk=32,
        index_head_dim=8,
        index_n_heads=16,  # of few, many tokens would have a score of 0, and any of them would be chosen
        kv_source_layers=[0, 1, 1, 3],
        indexer_types=["full", "full", "shared", "full"],
        tie_word_embeddings=False,
    )
    config = t.MistralLarge4Config(
        vision_config={"model_type": "pixtral", **vision_size(image_size=32), "head_dim": 8},
        text_config=text,
        spatial_merge_size=2,
        **token_ids(found, image_token_index="[IMG]"),
    )
    return t.MistralLarge4ForConditionalGeneration(config), mistral_processor(found)


@tiny_type("minimax_m3_vl", family="MiniMax M3", needs=("torchvision",), refused=True)
def minimax_m3_vl() -> tuple[Any, Any]:
    names = ("start of image", "end of image", "image", "video")
    start, end, image, video = (f"]<]{name}[>[" for name in names)
    found = tokenizer(start, end, image, video, bos="]~!b[", eos="[e~[", pad="]!p~[")
    size = {"patch_size": 7, "merge_size": 2, "temporal_patch_size": 2}
    processor = t.MiniMaxM3VLProcessor(
        t.MiniMaxM3VLImageProcessor(**size),
        found,
        t.MiniMaxM3VLVideoProcessor(**size),
        chat_template="{{ messages[0].content[0].text }}",
    )
    text = text_size(
        found,
        head_dim=8,
        rotary_dim=4,
        dense_intermediate_size=48,
        shared_intermediate_size=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        index_n_heads=2,
        index_head_dim=8,
        index_block_size=16,
        index_topk_blocks=2,
        layer_types=["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
        tie_word_embeddings=False,
    )
    config = t.MiniMaxM3VLConfig(
        vision_config=vision_size(image_size=28, patch_size=7),
        text_config=text,
        projector_hidden_size=32,
        **token_ids(found, image_token_index=image, video_token_index=video),
    )
    return t.MiniMaxM3SparseForConditionalGeneration(config), processor
