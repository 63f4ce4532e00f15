"""Texts of users, in which the spelling of a special token is text: it opens no turn and stands for no image.

A mark breaks every such spelling before the chat template and the processor see it. To the tokenizer the
mark is a token, which is removed from the ids. (transformers 5.23 has `sanitize_control_tokens`, which works
only with processors without a `__call__` of their own; Mllama, Idefics3 and Gemma 3 have one.)
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from tokenizers import AddedToken

from llava_cot.core.stages import LLAVA_COT
from llava_cot.errors import ModelError
from llava_cot.models.local.checkpoint import failing_with

# A code point that Unicode reserves for such uses: no text for people has it.
MARK = "\ufdd0"
_REPLACED = "\ufffd"
_ENDS = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")  # tokens that are no tags
# Texts of prompts and answers, which some checkpoints have as special tokens.
_TAGS = {tag for stage in LLAVA_COT.stages for tag in (stage.open, stage.close)}


class PlainText:
    """Encodes texts for one tokenizer; `spellings` are more strings that a user's text cannot use."""

    def __init__(self, tokenizer: Any, spellings: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = {token.content for token in added if token.special}
        fixed = {*spellings, *(getattr(tokenizer, f"{name}_token", None) for name in _ENDS)}
        found = {*spellings, *tokenizer.all_special_tokens, *special} - _TAGS
        closed = {text for text in special if text.startswith("<") and f"</{text[1:]}" in special}
        tags = {*closed, *(f"</{text[1:]}" for text in closed)} - fixed
        self._spelled, self._spelled_in_answers = _pattern(found), _pattern(found - tags)

    def mark(self, text: str, answer: bool = False) -> str:
        """The text with a mark in each spelling of a special token.

        An `answer` may have tags: pairs of special tokens such as `<think>` and `</think>` stay tokens there.
        """
        pattern = self._spelled_in_answers if answer else self._spelled
        return pattern.sub(rf"\1{MARK}", text.replace(MARK, _REPLACED))

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text with marks, with the tokens that the tokenizer adds if `special`.

        Raises ModelError.
        """
        marked = MARK in text
        tokenizer = self.marked_tokenizer if marked else self._tokenizer
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ModelError(
                "the tokenizer cannot take the text: it has half of a character (a lone surrogate)"
            )
        with failing_with("the tokenizer cannot take the text"):
            ids: list[int] = tokenizer.encode(text, add_special_tokens=special)
        return [token for token in ids if token != self.mark_id] if marked else ids

    @cached_property
    def marked_tokenizer(self) -> Any:
        """A copy of the tokenizer for which the mark is a token; it separates what is on either side."""
        with failing_with("the tokenizer cannot be copied"):
            made = copy.deepcopy(self._tokenizer)
            made.add_tokens([AddedToken(MARK, special=True, normalized=False)], special_tokens=True)
            return made

    @cached_property
    def mark_id(self) -> int:
        return int(self.marked_tokenizer.convert_tokens_to_ids(MARK))

    def marked_processor(self, processor: Any) -> Any:
        """A copy of a processor that takes texts with marks, and leaves the marks' ids in."""
        made = copy.copy(processor)
        made.tokenizer = self.marked_tokenizer
        return made


def _pattern(texts: set[str]) -> re.Pattern[str]:
    """Finds the first character of each text, in the first group. A single character cannot be broken."""
    alternatives = "|".join(re.escape(text) for text in sorted(texts) if len(text) > 1)
    return re.compile(f"(?={alternatives or '(?!)'})(.)", re.DOTALL)
