"""A checkpoint's chat template, and its tokenizer's pattern, take bounded time."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from command import wait_for

from llava_cot import open_model
from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.local import chat_template


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set x = namespace(v='ab') %}{% for i in range(99) %}{% set x.v = x.v ~ x.v %}{% endfor %}",
    ],
)
async def test_a_template_that_does_not_end(
    copy: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "_SECONDS", 0.5)
    (copy / "chat_template.jinja").write_text(template)
    with closing(open_model(copy)) as model:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(ModelError, match="chat template") as told:
                await model.sample(Prompt.of("How many?"), 1, Sampling(max_tokens=2))
            assert time.monotonic() - began < 10 and "\n" not in str(told.value)


@pytest.mark.parametrize(
    "template", ["{{ 9 ** 9 ** 9 }}", "{{ 'a' * 10000000 }}", "{{ 1e30 }}", "{{ 0xfffffff }}"]
)
def test_a_template_that_computes_too_much(copy: Path, template: str) -> None:
    (copy / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match="the chat template of"):
        open_model(copy)


def test_a_bounded_render_leaves_nothing_behind() -> None:
    for _ in range(200):
        assert chat_template.render_bounded(lambda: "text") == "text"
    wait_for(lambda: not any(t.name == "llava-cot template" for t in threading.enumerate()))


def test_an_exception_at_the_last_moment_strikes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_SECONDS", 0.0)
    monkeypatch.setattr(chat_template, "_LOOK", 0.0001)
    ends = {"text": 0, "error": 0}
    for number in range(300):
        try:
            assert chat_template.render_bounded(lambda: str(sum(range(30 * number))))  # noqa: B023
            ends["text"] += 1
        except ModelError:
            ends["error"] += 1
        sum(range(1000))
    assert ends["text"] + ends["error"] == 300


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(x+x+)+y", "((a*)*)*b"])
async def test_a_tokenizer_with_a_pattern_that_never_ends(copy: Path, pattern: str) -> None:
    file = copy / "tokenizer.json"
    raw = json.loads(file.read_text())
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    raw["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, raw["pre_tokenizer"]]}
    file.write_text(json.dumps(raw))
    began = time.monotonic()
    with closing(open_model(copy)) as model:
        try:
            await model.sample(Prompt.of("a" * 60 + "!" + "x" * 60), 1, Sampling(max_tokens=2))
        except ModelError as error:
            assert "\n" not in str(error)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt", "tokenize", "chat_template", "self"])
def test_arguments_that_the_prompt_decides(copy: Path, name: str) -> None:
    with pytest.raises(ModelError, match=f"chat_template_kwargs has {name}, which the prompt decides"):
        open_model(copy, chat_template_kwargs={name: False})


def test_arguments_that_are_no_mapping(copy: Path) -> None:
    with pytest.raises(ModelError, match="chat_template_kwargs is a list; give names with their values"):
        open_model(copy, chat_template_kwargs=[1])  # type: ignore[arg-type]


async def test_an_argument_that_the_template_does_not_read(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"enable_thinkin": True, "enable_thinking": False}
    with closing(open_model(copy, chat_template_kwargs=given)) as model:
        await model.sample(Prompt.of("How many?"), 1, Sampling(max_tokens=2))
    [said] = caplog.messages
    assert said == "the chat template does not read enable_thinkin, which has no effect"
