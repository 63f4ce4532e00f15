from __future__ import annotations

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.models.text import SampleText, Vocabulary

TOKENIZER = tiny.make_tokenizer("</CAPTION> then")
VOCABULARY = Vocabulary(TOKENIZER, len(TOKENIZER) + 3)
BYTES = {TOKENIZER.convert_ids_to_tokens(i): i for i in range(len(TOKENIZER))}


def spelled(text: str) -> list[int]:
    """The text in tokens of one byte each."""
    letters = TOKENIZER.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return [BYTES[letter] for word, _ in letters for letter in word]


def write(tokens: list[int], stops: tuple[str, ...], prefix: str = "") -> tuple[str, list[int]] | None:
    """Text and tokens at the stop; None if there is none. What is shown must be the text."""
    writing = SampleText(VOCABULARY, VOCABULARY.encode(prefix), stops)
    shown = ""
    for token in tokens:
        if writing.add(token):
            found, text = writing.cut()
            assert shown + writing.rest(text) == text
            assert VOCABULARY.decode(found, VOCABULARY.encode(prefix)) == text
            return text, found
        shown += writing.show()
    assert shown + writing.rest(writing.text) == writing.text
    return None


def test_a_stop_split_over_tokens_is_found() -> None:
    tokens = spelled("one </SUMMARY> two")
    assert write(tokens, ("</SUMMARY>",)) == ("one </SUMMARY>", tokens[:14])


def test_text_after_a_stop_in_its_token_is_cut_and_the_token_written_anew() -> None:
    tail = TOKENIZER.convert_tokens_to_ids("</CAPTION> then")
    text, tokens = write([*spelled("one"), tail, *spelled("more")], ("</SUMMARY>", "</CAPTION>")) or ("", [])
    assert text == "one</CAPTION>"
    assert tail not in tokens
    assert TOKENIZER.decode(tokens) == text


def test_the_first_of_several_stops_counts_and_is_the_same_in_any_order() -> None:
    tokens = spelled("a.b!")
    for stops in ((".", "!"), ("!", "."), (".b!", "!", ".")):
        assert write(tokens, stops) == ("a.", tokens[:2])


def test_white_space_at_the_end_of_a_stop_is_not_kept() -> None:
    assert write(spelled("It is 3.14. Then"), (". ", "! ")) == ("It is 3.14.", spelled("It is 3.14."))


def test_a_stop_must_be_new_text_from_its_first_character() -> None:
    """A sentence that ended with "." has no white space that the next one begins with."""
    assert write(spelled(" Then it"), (". ",), "It is 3.") is None
    assert write(spelled("MARY> x"), ("</SUMMARY>",), "yes </SUM") is None
    assert write(spelled("and on"), ("</SUMMARY>",), "yes </SUMMARY>") is None


def test_a_stop_beyond_ascii_whose_last_character_is_two_tokens() -> None:
    tokens = spelled("aβγ rest")
    assert len(tokens) == 10
    assert write(tokens, ("βγ",)) == ("aβγ", tokens[:5])


def test_no_stop_ends_nothing() -> None:
    assert write(spelled("a </SUMMARY> b"), ()) is None
    assert write(spelled("a </SUMMARY> b"), ("",)) is None


def test_a_character_is_shown_when_it_is_whole() -> None:
    writing = SampleText(VOCABULARY, (), ())
    shown = []
    for token in spelled("aβ\N{GRINNING FACE}b"):
        writing.add(token)
        shown.append(writing.show())
    assert [part for part in shown if part] == ["a", "β", "\N{GRINNING FACE}", "b"]


def test_white_space_is_shown_when_something_follows_it() -> None:
    writing = SampleText(VOCABULARY, (), ("\n\n",))
    shown = []
    for token in spelled("a \nb"):
        writing.add(token)
        shown.append(writing.show())
    assert shown == ["a", "", "", " \nb"]


def test_tokens_without_text_leave_the_character_before_them_whole() -> None:
    nothing = len(TOKENIZER) + 2
    assert VOCABULARY.decode([nothing]) == ""
    assert write([nothing, nothing, nothing, *spelled("a")], (), "é") is None


ids = st.lists(st.integers(0, len(TOKENIZER) + 2), max_size=30)
texts = st.text(alphabet="ab <>/.é\nβ", min_size=1, max_size=4)


@given(ids, st.lists(texts, max_size=3), st.text(alphabet="ab <é", max_size=5))
def test_any_tokens_stop_where_their_text_says(tokens: list[int], stops: list[str], prefix: str) -> None:
    found = write(tokens, tuple(stops), prefix)
    before = VOCABULARY.encode(prefix)
    whole = VOCABULARY.decode(tokens, before)
    ends = [whole.index(stop) + len(stop) for stop in stops if stop in whole]
    if found is None:
        assert not ends
    else:
        assert found[0] == whole[: min(ends)].rstrip()


@pytest.mark.parametrize("text", ["<CAPTION> x </CAPTION>", "a\n\nb", "ünïcode"])
def test_pieces_that_end_a_stop_hold_its_last_character(text: str) -> None:
    endings = VOCABULARY.endings((text,))
    assert len(endings) == len(TOKENIZER) + 3
    assert endings[VOCABULARY.encode(text)[-1]]
    assert not endings[BYTES["q"]]
