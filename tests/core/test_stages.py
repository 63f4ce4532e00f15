import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_cot.core.stages import (
    LLAVA_COT,
    Answer,
    Stage,
    StageFormat,
    last_closed,
    make_format,
    parse,
    render,
    validate,
)

THINK = make_format("think,answer")
ODD = StageFormat((Stage("plan", "[[Plan", "Plan]]"), Stage("say", "Say:", ":end"), Stage("why", "ß<", ">ß")))
FORMATS = (LLAVA_COT, THINK, ODD)
GOOD = (
    "<SUMMARY> I count. </SUMMARY>\n\n<CAPTION> Two cubes. </CAPTION>\n\n"
    "<REASONING> 1 + 1 = 2. </REASONING>\n\n<CONCLUSION> 2 </CONCLUSION>"
)


def stages(text: str) -> list[str | None]:
    return list(parse(text).stages.values())


def kinds(text: str) -> list[tuple[str, str | None]]:
    return [(departure.kind, departure.stage) for departure in validate(text)]


def test_a_text_as_the_paper_has_it() -> None:
    answer = parse(GOOD)
    assert answer.stages == {
        "summary": "I count.",
        "caption": "Two cubes.",
        "reasoning": "1 + 1 = 2.",
        "conclusion": "2",
    }
    assert list(answer.stages) == ["summary", "caption", "reasoning", "conclusion"]
    assert answer.text == GOOD
    assert answer.conclusion == answer.answer == "2"
    assert validate(GOOD) == []
    assert render(answer) == GOOD


# What was written, the four stages read from it, and the departures named.
S, C, R, K = "summary", "caption", "reasoning", "conclusion"
CASES: dict[str, tuple[str, list[str | None], list[tuple[str, str | None]]]] = {
    "absent": ("<CONCLUSION>2</CONCLUSION>", [None, None, None, "2"], [("absent", n) for n in (S, C, R)]),
    "no stage": ("It is 2.", [None] * 4, [("outside", None), *[("absent", n) for n in (S, C, R, K)]]),
    "nothing": ("", [None] * 4, [("absent", n) for n in (S, C, R, K)]),
    "unclosed at the end": (
        GOOD.removesuffix("</CONCLUSION>"),
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("unclosed", K)],
    ),
    "closing tag cut off": (
        GOOD.removesuffix("LUSION>"),
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("unclosed", K)],
    ),
    "unclosed in the middle": (
        GOOD.replace("</CAPTION>", ""),
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("unclosed", C)],
    ),
    "all unclosed": (
        "<SUMMARY>a\n<CAPTION>b\n<REASONING>c\n<CONCLUSION>d",
        ["a", "b", "c", "d"],
        [("unclosed", n) for n in (S, C, R, K)],
    ),
    "text around": (
        "Sure!\n" + GOOD.replace("</SUMMARY>", "</SUMMARY> Now look:") + "\nHope this helps.",
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("outside", None)] * 3,
    ),
    "case": (
        GOOD.replace("<SUMMARY>", "<Summary>").replace("</CAPTION>", "</caption>"),
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("case", S), ("case", C)],
    ),
    "opening tag mentioned in an earlier stage": (
        GOOD.replace("I count.", "The <REASONING> tag follows."),
        ["The <REASONING> tag follows.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("nested", S)],
    ),
    "opening tag mentioned in a later stage": (
        GOOD.replace("1 + 1 = 2.", "As the <SUMMARY> tag and the <caption> tag say, 2."),
        ["I count.", "Two cubes.", "As the <SUMMARY> tag and the <caption> tag say, 2.", "2"],
        [("nested", R)] * 2,
    ),
    "own opening tag mentioned": (
        GOOD.replace("I count.", "This <SUMMARY> is short."),
        ["This <SUMMARY> is short.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("nested", S)],
    ),
    "other closing tag mentioned": (
        GOOD.replace("1 + 1 = 2.", "After </CAPTION> I add: 2."),
        ["I count.", "Two cubes.", "After </CAPTION> I add: 2.", "2"],
        [("nested", R)],
    ),
    "tags mentioned before the stages": (
        "I use the <SUMMARY> tag and the <CAPTION> tag.\n" + GOOD,
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("outside", None)],
    ),
    "a pair of tags mentioned, and the stage later": (
        GOOD.replace("1 + 1 = 2.", "I put it in <CONCLUSION>x</CONCLUSION>."),
        ["I count.", "Two cubes.", "I put it in <CONCLUSION>x</CONCLUSION>.", "2"],
        [("nested", R)] * 2,
    ),
    "a pair of tags mentioned, and the stage cut off later": (
        GOOD.replace("1 + 1 = 2.", "I put it in <CONCLUSION>x</CONCLUSION>.").removesuffix("</CONCLUSION>"),
        ["I count.", "Two cubes.", "I put it in <CONCLUSION>x</CONCLUSION>.", "2"],
        [("nested", R), ("nested", R), ("unclosed", K)],
    ),
    "conclusion only inside the reasoning": (
        "<SUMMARY>a</SUMMARY><CAPTION>b</CAPTION><REASONING>c <CONCLUSION>2</CONCLUSION> d</REASONING>",
        ["a", "b", "c d", "2"],
        [("nested", R)] * 2,
    ),
    "one inside the other": (
        "<SUMMARY>a<CAPTION>b<REASONING>c<CONCLUSION>2</CONCLUSION></REASONING></CAPTION></SUMMARY>",
        ["a", "b", "c", "2"],
        [("nested", S)] * 6,
    ),
    "crossing": (
        "<SUMMARY>a<CAPTION>b</SUMMARY>c</CAPTION><REASONING>d</REASONING><CONCLUSION>e</CONCLUSION>",
        ["a", "b</SUMMARY>c", "d", "e"],
        [("unclosed", S), ("nested", C)],
    ),
    "repeated, the last complete one wins": (
        GOOD + "\nWait.\n<CONCLUSION> 3 </CONCLUSION>\n<CONCLUSION> 4",
        ["I count.", "Two cubes.", "1 + 1 = 2.", "3"],
        [("outside", None), ("repeated", K), ("repeated", K), ("unclosed", K)],
    ),
    "repeated, an empty one never wins": (
        GOOD + "<CONCLUSION></CONCLUSION>",
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("repeated", K), ("empty", K)],
    ),
    "begun anew": (
        "<SUMMARY>a\n<CAPTION>b</CAPTION>\n" + GOOD,
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("unclosed", S), ("repeated", S), ("repeated", C)],
    ),
    "order": (
        "<CONCLUSION>2</CONCLUSION><SUMMARY>a</SUMMARY><CAPTION>b</CAPTION><REASONING>c</REASONING>",
        ["a", "b", "c", "2"],
        [("order", S), ("order", C), ("order", R)],
    ),
    "empty": (
        GOOD.replace("I count.", ""),
        ["", "Two cubes.", "1 + 1 = 2.", "2"],
        [("empty", S)],
    ),
    "opening tag forgotten": (
        GOOD.removeprefix("<SUMMARY>").replace("<CAPTION>", ""),
        ["I count.", "Two cubes.", "1 + 1 = 2.", "2"],
        [("unopened", S), ("unopened", C)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_departures(name: str) -> None:
    text, expected, departures = CASES[name]
    assert stages(text) == expected
    assert kinds(text) == departures


def test_a_departure_is_told_in_words() -> None:
    details = [departure.detail for departure in validate("Well.\n" + GOOD.replace("<CAPTION>", "<caption>"))]
    assert details == ["there is text outside the stages: 'Well.'", "<caption> should be <CAPTION>"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (GOOD, "2"),
        ("  four \n", "four"),
        ("", None),
        ("<REASONING>4</REASONING>", None),
        ("<CONCLUSION> </CONCLUSION>", None),
        ("The answer is <b>4</b>.", "The answer is <b>4</b>."),
    ],
)
def test_what_counts_as_the_answer(text: str, answer: str | None) -> None:
    assert parse(text).answer == answer


def test_less_than_signs_stay_in_a_text_left_open() -> None:
    assert stages("<REASONING> 3 <")[2] == "3 <"
    assert stages("<REASONING> a <c")[2] == "a <c"
    assert parse("Say: when :en", ODD).stages["say"] == "when"
    wordy = StageFormat((Stage("say", "BEGIN", "END"),))
    assert parse("BEGIN WHEN", wordy).stages["say"] == "WHEN"


def test_a_custom_format() -> None:
    answer = parse("<Think>2 and 2</think> <answer>4</answer>", THINK)
    assert answer.stages == {"think": "2 and 2", "answer": "4"}
    assert answer.answer == "4"
    assert parse("2 and 2</think>\n<answer>4", THINK).stages == answer.stages
    first = replace(THINK, final="think")
    assert parse(answer.text, first).answer == "2 and 2"
    assert render({"answer": "4"}, THINK) == "<answer> 4 </answer>"


def test_last_closed() -> None:
    assert last_closed("") is None
    assert last_closed("<SUMMARY> a") is None
    assert last_closed("<SUMMARY> a </summary>") == 0
    assert last_closed("</CONCLUSION> and </CAPTION>") == 3
    assert last_closed("<think>x</think>", THINK) == 0


def test_make_format() -> None:
    assert make_format(" think , Answer=<Final> ,why=[[why ]]") == StageFormat(
        (
            Stage("think", "<think>", "</think>"),
            Stage("answer", "<Final>", "</Final>"),
            Stage("why", "[[why", "]]"),
        ),
        "why",
    )


@pytest.mark.parametrize(
    "spec",
    ["", ",", "a,,b", "a,a", "a=", "a=<A", "a=[A]", "a=x y z", "a b", "a=<X>,b=<x>", "a=X: Y,b=Final~X: Z"],
)
def test_make_format_refuses(spec: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        make_format(spec)


@pytest.mark.parametrize(
    "bad",
    [
        (),
        (Stage("a", "", "</a>"),),
        (Stage("a", "<a> ", "</a>"),),
        (Stage("a", "<a>", "\n\n"),),
        (Stage("a", "<a>", "<A>"),),
        (Stage("A", "<a>", "</a>"),),
        (Stage("a", "<a>", "</a>"), Stage("a", "<b>", "</b>")),
        (Stage("a", "<a>", "</a>"), Stage("b", "<a>b", "</b>")),
    ],
)
def test_a_format_that_could_not_be_read_is_refused(bad: tuple[Stage, ...]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        StageFormat(bad)


def test_the_name_of_a_searched_sentence_is_no_stage_s() -> None:
    with pytest.raises(ValueError, match="cannot be named 'sentence'"):
        make_format("sentence,answer")
    assert make_format("line=<sentence>,answer").names == ("line", "answer")


def test_a_final_stage_must_be_in_the_format() -> None:
    with pytest.raises(ValueError, match="no stage 'caption'"):
        StageFormat(THINK.stages, "caption")
    assert LLAVA_COT.final == "conclusion"
    assert LLAVA_COT.closing_tags == ("</SUMMARY>", "</CAPTION>", "</REASONING>", "</CONCLUSION>")


def test_render_refuses_what_could_not_be_read_back() -> None:
    with pytest.raises(ValueError, match="'summary' contains the tag '</Caption>'"):
        render({"summary": "the </Caption> tag"})
    with pytest.raises(ValueError, match="no stage 'thought'"):
        render({"thought": "x"})
    crossing = StageFormat((Stage("a", "<a>", "x y"), Stage("b", "b x", "</b>")))
    with pytest.raises(ValueError, match="told apart"):
        render({"a": "b"}, crossing)


# Texts of words, pieces of tags, and white space, for any of the formats.
def pieces(fmt: StageFormat) -> st.SearchStrategy[str]:
    tags = [tag for stage in fmt.stages for tag in (stage.open, stage.close)]
    cut = [tag[:k] for tag in tags for k in (1, 2, len(tag) - 1)] + [tag[1:] for tag in tags]
    return st.lists(
        st.one_of(
            st.sampled_from(tags),
            st.sampled_from([tag.swapcase() for tag in tags]),
            st.sampled_from(cut),
            st.sampled_from([" ", "\n", "the ", " tag", ".", "İ", "ſ"]),
            st.text(max_size=5),
        ),
        max_size=30,
    ).map("".join)


with_text = st.sampled_from(FORMATS).flatmap(lambda fmt: st.tuples(st.just(fmt), pieces(fmt)))


def with_stages(fmt: StageFormat) -> st.SearchStrategy[dict[str, str | None]]:
    piece = st.one_of(st.none(), st.text(max_size=40), pieces(fmt)).map(lambda text: text and text.strip())
    return st.fixed_dictionaries(dict.fromkeys(fmt.names, piece))


@given(st.sampled_from(FORMATS).flatmap(lambda fmt: st.tuples(st.just(fmt), with_stages(fmt))))
@settings(max_examples=400, deadline=None)
def test_what_is_rendered_is_read_back(case: tuple[StageFormat, dict[str, str | None]]) -> None:
    fmt, written = case
    answer = Answer(written, "", fmt.final)
    try:
        text = render(answer, fmt)
    except ValueError:
        return
    again = parse(text, fmt)
    assert again.stages == written
    assert parse(render(again, fmt), fmt) == again
    assert {departure.kind for departure in validate(text, fmt)} <= {"absent", "empty"}


@given(st.dictionaries(st.sampled_from(LLAVA_COT.names), st.text(alphabet="ab <>/ſ\n", max_size=20)))
def test_a_text_without_tags_is_always_rendered(written: dict[str, str]) -> None:
    expected = {name: written[name].strip() if name in written else None for name in LLAVA_COT.names}
    assert parse(render(written)).stages == expected


@given(with_text)
@settings(max_examples=600, deadline=None)
def test_no_text_raises(case: tuple[StageFormat, str]) -> None:
    fmt, text = case
    answer = parse(text, fmt)
    assert answer.text == text
    assert tuple(answer.stages) == fmt.names
    for stage in answer.stages.values():
        assert stage is None or stage == stage.strip()
    departures = validate(text, fmt)
    absent = {departure.stage for departure in departures if departure.kind == "absent"}
    assert absent == {name for name, stage in answer.stages.items() if stage is None}
    if not departures:
        assert "".join(render(answer, fmt).split()) == "".join(text.split())
    last = last_closed(text, fmt)
    assert last is None or fmt.closing_tags[last].casefold() in text.casefold()


@given(st.lists(st.sampled_from(LLAVA_COT.names), unique=True), st.randoms(use_true_random=False))
def test_noise_between_and_order_change_nothing(names: list[str], rng: random.Random) -> None:
    written = {name: f"the {name}" for name in names}
    noise = ["", "\n", "Well, ", "x < y\n", "</", "<b>"]
    text = rng.choice(noise)
    for name in names:
        stage = LLAVA_COT.stage(name)
        text += f"{stage.open}{written[name]}{stage.close}" + rng.choice(noise)
    assert parse(text).stages == dict.fromkeys(LLAVA_COT.names) | written


def test_200_thousand_hostile_characters_take_linear_time() -> None:
    units = [
        "<",
        "<SUMMARY",
        "<SUMMARY>",
        "</SUMMARY>",
        "x <SUMMARY> <CAPTION>",
        "<SUMMARY><CAPTION></SUMMARY>",
        "x<CONCLUSION>a<REASONING>b<CAPTION></CONCLUSION>c</CAPTION>",
    ]
    for unit in units:
        many = unit * (200_000 // len(unit))
        before = time.process_time()
        parse("<REASONING>" + many + "</REASONING>")
        # A tenth of a second is usual; a quadratic algorithm takes minutes.
        assert time.process_time() - before < 10
    before = time.process_time()
    parse(" " * 200_000 + "<SUMMARY>" * 20_000)
    validate("<SUMMARY>x</CAPTION><REASONING>" * 6_000)
    assert time.process_time() - before < 10
