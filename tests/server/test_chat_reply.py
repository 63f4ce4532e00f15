"""A streamed reply equals the whole one, whatever a model writes and however its text is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from playing import WHOLE, tagged

from llava_cot.core.stages import LLAVA_COT
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import ask_sync
from llava_cot.server.chat_reply import ChunkWriter, ReplyStyle, StopCutter, cut_at_stop, make_reply
from llava_cot.server.schemas import ChatChunk


@given(
    st.lists(st.text("ab<", max_size=6), max_size=8),
    st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3),
)
def test_a_cutter_passes_on_what_is_before_a_stop_string(pieces: list[str], stops: list[str]) -> None:
    cutter = StopCutter(tuple(stops))
    shown = "".join(map(cutter.feed, pieces)) + cutter.close()
    assert shown == cut_at_stop("".join(pieces), stops)


def test_a_cutter_holds_back_no_more_than_it_must() -> None:
    cutter = StopCutter(("END", "."))
    assert [cutter.feed(text) for text in ("one E", "N two E", "ND three")] == ["one ", "EN two ", ""]
    assert cutter.feed("four") == cutter.close() == ""


def both(written: str, *, raw: bool, method: str = "single") -> tuple[str, str]:
    """The content of a stream and of a whole reply."""
    style, chunks = ReplyStyle("m", raw, False, ()), list[ChatChunk]()
    trace = ask_sync(
        ScriptedModel(lambda prompt, rng: written[len(prompt.prefix) :]),
        None,
        "q",
        method=method,
        on_event=ChunkWriter(0, LLAVA_COT, style, chunks.append),
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return streamed, make_reply([trace], style).choices[0].message.content


_SOUP = st.lists(
    st.sampled_from(
        [
            "<SUMMARY>",
            "</SUMMARY>",
            "<CONCLUSION>",
            "</CONCLUSION>",
            "<REASONING>",
            "two ",
            " 3.14",
            "\n",
            "<",
        ]
    )
)


@given(_SOUP.map("".join), st.booleans(), st.sampled_from(["single", "stage-beam"]))
def test_the_content_of_a_stream_is_that_of_a_whole_reply(written: str, raw: bool, method: str) -> None:
    streamed, whole = both(written, raw=raw, method=method)
    assert streamed == whole


def test_a_conclusion_that_is_corrected_is_sent_once() -> None:
    corrected = f"{WHOLE} No. {tagged('conclusion', '3')}"
    assert both(corrected, raw=False) == ("3", "3")
