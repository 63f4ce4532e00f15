"""What the makers of tiny checkpoints share: tokenizers, chat templates and small sizes."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = (
    "How many objects are there? What color is the small metal sphere left of the cube?",
    "<SUMMARY> I will count. </SUMMARY> <CAPTION> There are 3 cubes. </CAPTION>",
    "Since response 1 is better, I choose response 2. Yes or no, red or blue.",
)
CONTEXT = 1024
_NEWLINES = "user\n\n\nassistant\n\n\n:\n\n"


def tokenizer(
    *special: str, eos: str, pad: str, bos: str | None = None, **named: str
) -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 330 tokens, with a family's special tokens.

    Args:
        special: Tokens that the chat template writes.
        eos: The token that ends an answer.
        pad: The token of padding.
        bos: The token that begins a text, if the family has one.
        named: Tokens that the processor finds by a name, such as `image_token`.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    first = list(dict.fromkeys(token for token in (pad, bos, eos) if token))
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=first, show_progress=False
    )
    core.train_from_iterator((*SENTENCES, _NEWLINES), trainer)
    others = [token for token in dict.fromkeys((*special, *named.values())) if token not in first]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in others])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        extra_special_tokens=[token for token in others if token not in named.values()],
        model_specific_special_tokens=named,
        clean_up_tokenization_spaces=False,
    )


def ids(made: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The ids of the beginning, the end and the padding, as configurations name them."""
    return {
        "bos_token_id": made.bos_token_id,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
    }


def token_ids(made: PreTrainedTokenizerFast, **names: str) -> dict[str, int]:
    """The ids of tokens, by the names that a configuration has for them."""
    return {name: made.convert_tokens_to_ids(token) for name, token in names.items()}


def text_size(made: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    """A small text model for a tokenizer."""
    return {
        "vocab_size": len(made),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        **ids(made),
        **more,
    }


def vision_size(**more: Any) -> dict[str, Any]:
    """A small ViT, as CLIP's, SigLIP's and most others' configurations name its sizes."""
    return {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
        **more,
    }


def turns(before: str, image: str, after: str, *, begin: str = "", answer: str = "") -> str:
    """A chat template that writes each turn between two strings, with its pictures where they stand.

    Args:
        before: What opens a turn; `ROLE` in it becomes the role.
        image: What stands for a picture.
        after: What closes a turn.
        begin: What begins the text.
        answer: What opens an answer; by default, what opens a turn of the assistant.
    """
    opening = "{{ '" + before.replace("ROLE", "' + turn.role + '") + "' }}"
    answer = answer or before.replace("ROLE", "assistant")
    return (
        f"{{{{ '{begin}' }}}}{{% for turn in messages %}}{opening}"
        f"{{% for part in turn.content %}}{{% if part.type == 'image' %}}{image}"
        "{% else %}{{ part.text }}{% endif %}{% endfor %}"
        f"{{{{ '{after}' }}}}{{% endfor %}}{{% if add_generation_prompt %}}{{{{ '{answer}' }}}}{{% endif %}}"
    )


def template(
    *,
    user: str,
    assistant: str,
    answer: str,
    image: str,
    system: str | None = None,
    begin: str = "",
    default_system: str = "",
    before_text: str = "",
    images_first: bool = False,
) -> str:
    """A chat template whose roles differ by more than their names, with `{}` where a turn's content is.

    Args:
        user: A turn of the user.
        assistant: An answer before the last turn.
        answer: What an answer begins with.
        image: What stands for a picture.
        system: The system turn; None if the template takes none.
        begin: What a conversation begins with.
        default_system: What stands in place of a system turn that is not there.
        before_text: What stands before a turn's text.
        images_first: Whether a turn's pictures come before its text, wherever they are.
    """
    picture = f"{{% if part.type == 'image' %}}{{{{ {image!r} }}}}{{% endif %}}"
    words = f"{{% if part.type == 'text' %}}{{{{ {before_text!r} + part.text }}}}{{% endif %}}"
    orders = (picture, words) if images_first else (picture + words,)
    content = "".join(f"{{% for part in message.content %}}{part}{{% endfor %}}" for part in orders)

    def turn(form: str) -> str:
        before, after = form.split("{}")
        return f"{{{{ {before!r} }}}}{content}{{{{ {after!r} }}}}"

    first = f"{{% if loop.first and message.role != 'system' %}}{{{{ {default_system!r} }}}}{{% endif %}}"
    no_system = "{{ raise_exception('there is no system turn') }}"
    return (
        f"{{{{ {begin!r} }}}}{{% for message in messages %}}{first if default_system else ''}"
        f"{{% if message.role == 'system' %}}{no_system if system is None else turn(system)}"
        f"{{% elif message.role == 'user' %}}{turn(user)}{{% else %}}{turn(assistant)}{{% endif %}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{{{{ {answer!r} }}}}{{% endif %}}"
    )


def chatml(image: str, **more: Any) -> str:
    """The template of ChatML, which many families have."""
    turn = "<|im_start|>{}\n{{}}<|im_end|>\n".format
    forms = {role: turn(role) for role in ("system", "user", "assistant")}
    return template(**{**forms, "answer": "<|im_start|>assistant\n", "image": image, **more})


def widen(model: Any) -> None:
    """Draw a model's weights so wide that greedy text varies and follows the picture."""
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    for name, parameter in model.named_parameters():
        if "gate" in name and parameter.numel() == 1:
            with torch.no_grad():
                parameter.fill_(0.7)  # Mllama's cross-attention gates are born shut
        if name.endswith("A_log"):  # states that forget within a few tokens would not tell of the picture
            torch.nn.init.constant_(parameter, -3.0)
        if parameter.ndim < 2:
            continue
        inputs = parameter.shape[1] if "expert" in name and parameter.ndim == 3 else parameter[0].numel()
        # Of a tied embedding that is wide, the likeliest next token would be the last one, always.
        std = (0.2 if tied else 0.8) if "embed" in name and "proj" not in name else 1.6 * inputs**-0.5
        with torch.no_grad():
            parameter.normal_(std=std)


def without_video(processor: Any) -> Any:
    """A processor class whose objects have no part for videos, which needs torchvision."""
    names = [name for name in processor.get_attributes() if "video" not in name]
    return type(processor.__name__, (processor,), {"get_attributes": classmethod(lambda cls: names)})
