"""A stage format as a grammar and as a JSON schema, and a JSON reply as a staged answer."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format, parse, validate
from llava_cot.core.tags import find_tags
from llava_cot.search.stage_constraints import choices, stage_grammar, stage_schema, staged

ODD = make_format('think=[[ ]],say="x/ \\/y"')  # tags of quotes, slashes and backslashes; one doubles its end
FORMATS = [LLAVA_COT, make_format("think,answer"), ODD]
PIECES = [
    "<",
    "/",
    ">",
    "]",
    "[",
    '"',
    "\\",
    "x",
    " ",
    "\n",
    "é",
    "three < four",
    "<summary>",
    "</ANSWER>",
    "\x08",
    "\x1c",
]


class _Bytes:
    """A vocabulary of all bytes, and an end."""

    bos_token_id, eos_token_id, special_token_ids = None, 256, (256,)
    tokens = (*(bytes([i]) for i in range(256)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


_TOKENIZER = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))


@lru_cache
def _begun(grammar: str) -> Any:
    begun = llguidance.LLMatcher(_TOKENIZER, '%llguidance {"no_forcing": true}\n' + grammar)
    assert not begun.is_error(), begun.get_error()
    return begun


def accepts(fmt: StageFormat, text: str, options: tuple[str, ...] = ()) -> bool:
    matcher = _begun(stage_grammar(fmt, options).text).deep_copy()
    written = text.encode()
    return matcher.try_consume_tokens(list(written)) == len(written) and matcher.is_accepting()


texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=6).map("".join)


@given(st.sampled_from(FORMATS), st.data())
def test_the_grammar_takes_what_departs_in_nothing_from_the_format(fmt: StageFormat, data: Any) -> None:
    gaps = st.sampled_from(["", " ", "\n", "\n\n"])
    text = "".join(
        data.draw(gaps if i else st.just("")) + stage.open + data.draw(texts) + stage.close
        for i, stage in enumerate(fmt.stages)
    )
    assert accepts(fmt, text) == (validate(text, fmt) == [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<think>a</think>",
        "<answer>b</answer><think>a</think>",
        "<think>a</think><answer>b</answer>\n",
        " <think>a</think><answer>b</answer>",
        "<think>a</think>c<answer>b</answer>",
        "<think>a</think>\n\n\n<answer>b</answer>",
        "<think>a<THINK>b</think><answer>b</answer>",
        "<think> \n</think><answer>b</answer>",
    ],
)
def test_the_grammar_takes_nothing_else(text: str) -> None:
    fmt = make_format("think,answer")
    assert accepts(fmt, "<think>a</think>\n\n<answer>b</answer>")
    assert not accepts(fmt, text)


OPTIONS = ('say "hi"', " a / b ", "c:\\d\ne", "B", "", "<answer>")


@pytest.mark.parametrize("final", ["answer", "think"])
def test_the_final_stage_is_an_option_or_its_letter(final: str) -> None:
    fmt = StageFormat(make_format("think,answer").stages, final)

    def written(choice: str) -> str:
        words = {"think": "why", "answer": "42"} | {final: choice}
        return "".join(f"<{name}>{text}</{name}>" for name, text in words.items())

    for choice in ("A", "F", 'say "hi"', "a / b", " a / b\n", "c:\\d\ne"):
        assert accepts(fmt, written(choice), OPTIONS), choice
    for choice in ("", "G", "a", "AB", "say hi", "A  ", "<answer>", "why"):
        assert not accepts(fmt, written(choice), OPTIONS), choice


def test_choices_are_letters_and_options_each_once() -> None:
    assert choices(("left", "B", " ", "left ")) == ["A", "B", "C", "D", "left"]
    assert choices(()) == []


def test_the_schema_has_the_stages_in_their_order() -> None:
    schema = json.loads(stage_schema(LLAVA_COT, ("red", "blue")).text)
    assert list(schema["properties"]) == schema["required"] == list(LLAVA_COT.names)
    assert schema["properties"]["conclusion"]["enum"] == ["A", "B", "red", "blue"]
    assert schema["additionalProperties"] is False
    assert "enum" not in stage_schema(LLAVA_COT).text


@given(st.sampled_from(FORMATS), st.data())
def test_json_becomes_stages_and_loses_nothing_but_tags(fmt: StageFormat, data: Any) -> None:
    given_texts = {name: data.draw(texts) for name in fmt.names}
    text = staged(json.dumps(given_texts, ensure_ascii=data.draw(st.booleans())), fmt)
    found = parse(text, fmt).stages
    assert {departure.kind for departure in validate(text, fmt)} <= {"empty"}
    for name, before in given_texts.items():
        if not find_tags(before, fmt.pairs):
            assert found[name] == before.strip()
        else:
            assert len(found[name] or "") < len(before)


STAGES = {"summary": 'I "count".', "caption": "3 < 4\n\u00e9\U0001f600", "reasoning": "4", "conclusion": "B"}


@pytest.mark.parametrize("ascii_only", [False, True])
def test_of_json_that_was_cut_the_whole_stages_stay_and_the_last_as_far_as_it_goes(ascii_only: bool) -> None:
    reply = json.dumps(STAGES, ensure_ascii=ascii_only)
    lengths = []
    for end in range(len(reply) + 1):
        found = parse(staged(reply[:end], LLAVA_COT)).stages if end else {}
        there = [name for name, text in found.items() if text is not None]
        assert there == list(STAGES)[: len(there)]
        for name in there:
            whole = f"{json.dumps(STAGES[name], ensure_ascii=ascii_only)[1:-1]}" + '"' in reply[:end]
            assert found[name] == STAGES[name] if whole else STAGES[name].startswith(found[name] or "")
        lengths.append(sum(len(found[name] or "") for name in there))
    assert lengths == sorted(lengths) and lengths[-1] == sum(map(len, STAGES.values()))
    assert validate(staged(reply, LLAVA_COT)) == []


def test_an_open_stage_is_open_and_others_are_closed() -> None:
    text = staged('{"summary": "I will", "caption": "There a', LLAVA_COT)
    assert text == "<SUMMARY> I will </SUMMARY>\n\n<CAPTION> There a"


@pytest.mark.parametrize("reply", ["", "I count 3.", '["a"]', "<SUMMARY> a </SUMMARY>", "```json\n{}"])
def test_what_is_no_json_object_stays_as_it_is(reply: str) -> None:
    assert staged(reply, LLAVA_COT) == reply


def test_values_that_are_no_texts_are_written_as_json_has_them() -> None:
    reply = '{"caption": null, "conclusion": 3, "reasoning": [1, "é"], "other": "x"}'
    assert parse(staged(reply, LLAVA_COT)).stages == {
        "summary": None,
        "caption": None,
        "reasoning": '[1, "é"]',
        "conclusion": "3",
    }
