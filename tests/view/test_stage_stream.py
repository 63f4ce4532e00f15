from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format, parse, render
from llava_cot.view.stage_stream import StageStreamer

ANSWER = "<SUMMARY> I will count. </SUMMARY>\n\n<CAPTION> Two\ncubes. </CAPTION><CONCLUSION>2</CONCLUSION>"


def show(chunks: list[str], fmt: StageFormat = LLAVA_COT) -> list[tuple[str, str]]:
    """What is shown of the chunks, neighboring texts joined."""
    streamer = StageStreamer(fmt)
    pieces = [piece for chunk in chunks for piece in streamer.feed(chunk)] + streamer.close()
    shown: list[tuple[str, str]] = []
    for piece in pieces:
        if piece.kind == "text" and shown and shown[-1][0] == "text":
            shown[-1] = ("text", shown[-1][1] + piece.text)
        else:
            shown.append((piece.kind, piece.text))
    return shown


EXPECTED = [
    ("begin", "summary"), ("text", "I will count."), ("end", "summary"),
    ("begin", "caption"), ("text", "Two\ncubes."), ("end", "caption"),
    ("begin", "conclusion"), ("text", "2"), ("end", "conclusion"),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_tags_become_names_however_the_text_is_cut(size: int) -> None:
    chunks = [ANSWER[i : i + size] for i in range(0, len(ANSWER), size)]
    assert show(chunks) == EXPECTED


def test_text_is_shown_as_soon_as_it_cannot_be_a_tag() -> None:
    streamer = StageStreamer(LLAVA_COT)
    assert [p.text for p in streamer.feed("<SUMMARY> I will")] == ["summary", "I will"]
    assert [p.text for p in streamer.feed(" count")] == [" count"]
    assert streamer.feed(" </SUM") == []
    assert [p.text for p in streamer.feed("ma")] == []
    assert [p.text for p in streamer.feed("tion of all")] == [" </SUMmation of all"]


def test_what_models_really_write() -> None:
    assert show(["<summary>a</Summary>"]) == [("begin", "summary"), ("text", "a"), ("end", "summary")]
    assert show(["<SUMMARY>a <CAPTION>b"])[2:5] == [("end", "summary"), ("begin", "caption"), ("text", "b")]
    assert show(["Sure! <CONCLUSION>4</CONCLUSION> Bye."]) == [
        ("text", "Sure!"), ("begin", "conclusion"), ("text", "4"), ("end", "conclusion"), ("text", "Bye."),
    ]  # fmt: skip
    assert show(["no stages < at all </"]) == [("text", "no stages < at all </")]
    assert show(["<\u017fUMMARY>a"])[0] == ("begin", "summary")
    assert show([]) == []


def test_a_custom_format() -> None:
    fmt = make_format("think,answer=[[ ]]")
    assert show(["<thi", "nk>hm</think> [", "[4 ] ]]"], fmt) == [
        ("begin", "think"), ("text", "hm"), ("end", "think"),
        ("begin", "answer"), ("text", "4 ]"), ("end", "answer"),
    ]  # fmt: skip


@given(st.text(), st.integers(1, 9))
def test_nothing_raises_and_cuts_never_matter(text: str, size: int) -> None:
    assert show([text[i : i + size] for i in range(0, len(text), size)]) == show([text])


words = st.text("ab <>/.\nSUMARY", min_size=1).map(str.strip).filter(bool)


@given(st.dictionaries(st.sampled_from(LLAVA_COT.names), words), st.integers(1, 9))
def test_a_rendered_answer_streams_as_it_parses(stages: dict[str, str], size: int) -> None:
    try:
        text = render(stages)
    except ValueError:
        return
    shown = show([text[i : i + size] for i in range(0, len(text), size)])
    told: dict[str, str] = {}
    for (kind, name), (following, inner) in pairwise(shown):
        if kind == "begin" and following == "text":
            told[name] = inner
    assert told == {name: text for name, text in parse(text).stages.items() if text}
