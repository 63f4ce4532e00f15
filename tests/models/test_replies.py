"""Prompts as messages, and replies as continuations, without a server."""

import base64
import io
import math

import pytest
from PIL import Image

from llava_cot.core.question import load_image
from llava_cot.models.base import Prompt
from llava_cot.models.endpoint.prompts import data_url, joined, messages
from llava_cot.models.endpoint.replies import (
    StreamedReply,
    check_reply,
    continuations,
    cut,
    scores,
    thought_of,
)
from llava_cot.models.endpoint.reply_types import Secret

STOPS = ("</A>", ". ")


@pytest.mark.parametrize(
    ("text", "choice", "expected"),
    [
        ("a </A>", {"finish_reason": "stop"}, ("a </A>", "stop")),
        ("a. b </A> c", {"finish_reason": "length"}, ("a.", "stop")),
        ("a", {"stop_reason": "</A>"}, ("a</A>", "stop")),
        ("a", {"matched_stop": ". "}, ("a.", "stop")),
        ("a ", {"matched_stop": 128009, "finish_reason": "stop"}, ("a ", "eos")),
        ("a ", {"finish_reason": "length"}, ("a ", "length")),
        ("a ", {"stop_reason": "</B>"}, ("a ", "eos")),
    ],
)
def test_where_a_sample_ends(text: str, choice: dict[str, object], expected: tuple[str, str]) -> None:
    assert cut(text, STOPS, choice) == expected


def reply(*texts: str, written: int | None = None, logprobs: list[list[str]] | None = None) -> dict:
    choices = [
        {
            "index": i,
            "message": {"content": text},
            "logprobs": {"content": [{"token": t, "logprob": -1.0} for t in logprobs[i]]}
            if logprobs
            else None,
        }
        for i, text in enumerate(texts)
    ]
    return {"choices": choices[::-1], "usage": {"prompt_tokens": 10, "completion_tokens": written}}


def test_tokens_are_counted_where_reported_and_else_divided() -> None:
    found = continuations(reply("ab", "c", logprobs=[["a", "b"], ["c"]], written=3), (), lambda r, w: r + w)
    assert [(c.text, c.completion_tokens, c.logprob) for c in found] == [("ab", 2, -2.0), ("c", 1, -1.0)]
    assert [c.usd for c in found] == [6.5, 6.5]
    divided = continuations(reply("aaaaaa", "bbb", "", written=10), (), lambda r, w: None)
    assert [c.completion_tokens for c in divided] == [6, 4, 0]
    assert (divided[0].logprob, divided[0].usd) == (None, None)


def test_the_log_probability_is_that_of_the_text_kept() -> None:
    [sample] = continuations(
        reply("é</A> x", logprobs=[["é", "</A>", " x", ""]], written=4), STOPS, lambda r, w: None
    )
    assert (sample.text, sample.logprob, sample.completion_tokens) == ("é</A>", -2.0, 4)


def scored(*positions: dict[str, float]) -> dict:
    content = [
        {"token": next(iter(top)), "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]}
        for top in positions
    ]
    return {"choices": [{"logprobs": {"content": content}}]}


def test_options_are_scored_at_the_first_word() -> None:
    assert scores(scored({" 1": -0.5, " 2": -2.0}), (" 1", " 2")) == pytest.approx([-0.5, -2.0])
    assert scores(scored({" ": -0.1}, {"2": -0.5, "1": -2.0}), (" 1", " 2")) == pytest.approx([-2.0, -0.5])
    assert scores(scored({" ": -0.1}, {"\n": -0.5, "1": -2.0}), (" 1", " 2")) == [-math.inf, -math.inf]
    both = scores(scored({"1": math.log(0.25), " 1": math.log(0.5)}), (" 1", " 2"))
    assert both is not None and both == pytest.approx([math.log(0.75), -math.inf])
    assert scores({"choices": [{"logprobs": None}]}, (" 1", " 2")) is None
    assert scores(scored({"1": -9999.0, "2": -math.inf}), ("1", "2")) == [-9999.0, -math.inf]


def test_a_stream_sends_each_piece_once_and_nothing_that_is_cut_off() -> None:
    pieces: list[str] = []
    stream = StreamedReply(("</A>",), pieces.append, Secret(None))

    def write(take: object, *pieces: str) -> None:
        for piece in pieces:
            take({"choices": [{"delta": {"content": piece}}]})  # type: ignore[operator]

    write(stream.restart(), "one ", "two")
    write(stream.restart(), "one ", "two ", "</A>", " three")
    assert "".join(pieces) == "one two </A>"
    assert stream.reply["usage"]["completion_tokens"] == 4
    write(stream.restart(), "other")
    assert not stream.send("other")


def test_a_reply_that_begins_anew_is_made_a_continuation() -> None:
    assert joined("<A> x", "<A> x y", "none") == " y"
    assert joined("x.", "Then", "none") == " Then"
    assert joined("x.", "\nThen", "none") == "\nThen"
    assert joined("x", "</A>", "continue") == "</A>"


def test_a_server_without_prefixes_gets_a_turn_for_the_next_part() -> None:
    turns, extra = messages(Prompt.of("q", prefix="<A> x </A>"), "none", ("</A>", "</B>", "</C>", ". "), None)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert extra == {}
    assert turns[-1]["content"].endswith("up to and including </B> (or, if that part is not needed, </C>).")
    first, _ = messages(Prompt.of("q"), "none", ("</A>",), None)
    assert first[0]["content"] == "q\n\nWrite only the next part of your answer, up to and including </A>."
    assert messages(Prompt.of("q"), "none", (), None)[0] == [{"role": "user", "content": "q"}]


def test_pictures_are_resized_to_the_limit_and_no_further() -> None:
    def size(width: int, height: int, side: int | None) -> tuple[str | None, tuple[int, int]]:
        url = data_url(load_image(Image.new("RGB", (width, height), "red")), side)
        picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
        assert url.startswith(f"data:image/{(picture.format or '').lower()};base64,")
        return picture.format, picture.size

    assert size(40, 20, None) == ("PNG", (40, 20))
    assert size(40, 20, 40) == ("PNG", (40, 20))
    assert size(40, 20, 10) == ("PNG", (10, 5))
    assert size(4000, 2, 100) == ("PNG", (100, 1))
    assert size(1200, 1000, None) == ("JPEG", (1200, 1000))


def test_thinking_is_read_from_either_field_and_only_from_text() -> None:
    for name in ("reasoning", "reasoning_content"):
        assert thought_of({"content": "2", name: "1 and 1"}) == "1 and 1"
    odd = {"message": {"content": "2", "reasoning": {"effort": "low"}, "reasoning_content": None}}
    assert thought_of(odd["message"]) == "" and thought_of(None) == ""
    check_reply({"choices": [odd]}, 1)
