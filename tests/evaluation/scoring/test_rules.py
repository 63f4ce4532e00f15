"""The rules: what any text may do to them, what a scorer is asked and how it is read, and the figures."""

from dataclasses import replace
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.evaluation.benchmarks import RULES
from llava_cot.evaluation.scoring.choice import (
    ChoiceRule,
    CircularRule,
    infer_option,
    mentions_letters,
    rotations,
)
from llava_cot.evaluation.scoring.free_text import EXACT, NUMBER, WORDS, ComparisonRule
from llava_cot.evaluation.scoring.yes_no import HallusionRule, YesNoRule, extract_yes_no
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoredItem, ScoringRule

CHOICE = BenchmarkItem(
    "a/1", "Which?", ("a cube", "a ball", "a cone"), "B", extra={"question": "Which, really?"}
)
ASKED = BenchmarkItem("a/2", "Is it red?", answer="Yes")
FREE = BenchmarkItem("a/3", "What is it?", answer="couch")
OPTIONS = st.lists(st.text("xyzäß 01", min_size=1, max_size=6), min_size=2, max_size=8)
SENTENCE = st.text("xyz, \n", max_size=20)


@given(st.text(), st.lists(st.text(max_size=5), max_size=26))
def test_any_text_names_one_of_the_options_or_none(text: str, options: list[str]) -> None:
    assert infer_option(text, options) in {*ascii_uppercase[: len(options)], "Z", None}
    assert extract_yes_no(text) in {"Yes", "No", None}


@given(st.data(), OPTIONS, SENTENCE)
def test_a_letter_at_the_end_is_the_answer(data: st.DataObject, options: list[str], before: str) -> None:
    letters = ascii_uppercase[: len(options)]
    letter = data.draw(st.sampled_from(letters))
    marks = st.sampled_from(["{}", "{}.", "({})", "[{}]", "**{}**", "{}:", "{{{}}}", "# {}", "{}!"])
    assert infer_option(f"{before} {data.draw(marks).format(letter)}", options) == letter


@given(st.data(), OPTIONS, SENTENCE)
def test_two_letters_are_no_answer_unless_words_tell(
    data: st.DataObject, options: list[str], between: str
) -> None:
    one, other = data.draw(st.permutations(ascii_uppercase[: len(options)]))[:2]
    said = infer_option(f"{one} {between} {other}", [f"option {option}" for option in options])
    assert said is None


@given(st.data(), st.lists(st.text("xyz", min_size=3, max_size=5), min_size=2, max_size=6, unique=True))
def test_the_text_of_one_option_is_the_answer(data: st.DataObject, options: list[str]) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    held = [option for option in options if option in options[index]]
    for text in (options[index], options[index].upper(), f"{options[index]}."):
        assert infer_option(text, options) == (ascii_uppercase[index] if len(held) == 1 else None)


@given(st.sampled_from(["yes", "YES", "Yes"]), st.text("abc 。'", max_size=12))
def test_yes_is_read_as_a_word(word: str, rest: str) -> None:
    assert extract_yes_no(f"{word} {rest}") == "Yes"
    assert extract_yes_no(f"{word}, no {rest}") is None
    assert extract_yes_no(f"{word}x {rest}") is None


def test_the_matched_answer_is_in_the_score() -> None:
    assert ChoiceRule().match(CHOICE, "It is (B).") == AnswerScore(1.0, "match", "B")
    assert ChoiceRule().match(CHOICE, "a cube") == AnswerScore(0.0, "match", "A")
    assert ChoiceRule().match(CHOICE, "Cannot determine the answer") == AnswerScore(0.0, "match", "Z")
    assert ChoiceRule().match(CHOICE, "A or B") is None
    assert YesNoRule().match(ASKED, "yes!") == AnswerScore(1.0, "match", "Yes")
    assert YesNoRule().match(ASKED, "It is blue.") is None


ALL: list[tuple[ScoringRule, BenchmarkItem]] = [
    (ChoiceRule(), CHOICE), (CircularRule(), CHOICE), (YesNoRule(), ASKED), (HallusionRule(), ASKED),
    (WORDS, FREE), (RULES["fitting"], CHOICE), (RULES["fitting"], FREE),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "item"), ALL)
def test_the_scorer_s_prompt_has_the_question_and_the_answer(rule: ScoringRule, item: BenchmarkItem) -> None:
    (message,) = rule.prompt(item, "  some sofa \n").messages
    assert (
        str(item.extra.get("question", item.text)) in message.text and "Answer: some sofa\n" in message.text
    )
    assert all(option in message.text for option in item.options)
    assert not message.images


def test_the_scorer_s_reply_is_in_the_score() -> None:
    assert ChoiceRule().read(CHOICE, "sphere", "B\n") == AnswerScore(1.0, "scorer", "B", "B")
    assert ChoiceRule().read(CHOICE, "sphere", "Letter: C") == AnswerScore(0.0, "scorer", "C", "Letter: C")
    assert ChoiceRule().read(CHOICE, "sphere", "Z") == AnswerScore(0.0, "scorer", "Z", "Z")
    assert ChoiceRule().read(CHOICE, "sphere", "I am not sure.") is None
    assert YesNoRule().read(ASKED, "red", "Yes.") == AnswerScore(1.0, "scorer", "Yes", "Yes.")
    assert YesNoRule().read(ASKED, "blue", "Unknown.") == AnswerScore(0.0, "scorer", "Unknown", "Unknown.")
    assert YesNoRule().read(ASKED, "blue", "Perhaps") is None
    assert WORDS.read(FREE, "sofa", "Yes") == AnswerScore(1.0, "scorer", reason="Yes")
    assert WORDS.read(FREE, "sofa", "perhaps yes, perhaps no") is None


@pytest.mark.parametrize(
    ("rule", "item", "reply", "worth"),
    [
        (ChoiceRule(), CHOICE, "**B**", 1),
        (ChoiceRule(), CHOICE, "`B`", 1),
        (ChoiceRule(), CHOICE, "B\n\nA and C are other shapes.", 1),
        (YesNoRule(), ASKED, "**Yes**", 1),
        (YesNoRule(), ASKED, "Yes, there is no other.", 1),
        (WORDS, FREE, "**Yes**", 1),
        (WORDS, FREE, "Answer: yes, no difference", 1),
        (WORDS, FREE, "No. Yes would be wrong.", 0),
    ],
)
def test_a_scorer_s_reply_as_people_write_it(
    rule: ScoringRule, item: BenchmarkItem, reply: str, worth: int
) -> None:
    found = rule.read(item, "some words", reply)
    assert found is not None and found.value == worth


def test_the_prompt_of_words_has_the_right_option_with_its_text() -> None:
    assert "Right answer: B. a ball\n" in WORDS.prompt(CHOICE, "sphere").messages[0].text


@pytest.mark.parametrize(
    ("rule", "answer", "said", "worth"),
    [
        (EXACT, "couch", "The Couch.", 1),
        (EXACT, "couch", "a red couch", 0),
        (EXACT, "3", "three", 1),
        (EXACT, "3", "3.5", 0),
        (EXACT, "couch", "", 0),
        (NUMBER, "14", "It is 14.0 in all.", 1),
        (NUMBER, "14", "fourteen", 1),
        (NUMBER, "1200", "$1,200", 1),
        (NUMBER, "14", "7 + 7 = 14", None),
        (NUMBER, "-2", "2", 0),
        (NUMBER, "3", "three", 1),
        (NUMBER, "14", "many", None),
        (WORDS, "couch", "It is a couch.", 1),
        (WORDS, "couch", "sofa", None),
        (WORDS, "red", "blue", 0),
        (WORDS, "none", "0", None),
    ],
)
def test_rules_for_free_answers(rule: ComparisonRule, answer: str, said: str, worth: int | None) -> None:
    score = rule.match(replace(FREE, answer=answer), said)
    assert (None if score is None else score.value) == worth
    assert score is None or score.by == "match"


SEX = replace(CHOICE, options=("male", "female"), answer="B")


@pytest.mark.parametrize(
    ("item", "said", "worth", "extracted"),
    [
        (SEX, "female", 1, "B"),
        (SEX, "male", 0, "A"),
        (SEX, "B。", 1, "B"),
        (SEX, "(b)", 1, "B"),
        (replace(SEX, options=("1", "3", "5", "7"), answer="A"), "12", 0, "12"),
        (SEX, "a person", None, None),
    ],
)
def test_options_of_own_questions(
    item: BenchmarkItem, said: str, worth: int | None, extracted: str | None
) -> None:
    score = RULES["fitting"].match(item, said)
    assert (score and (score.value, score.extracted)) == (None if worth is None else (worth, extracted))


@pytest.mark.parametrize(
    ("said", "worth"),
    [("B", 1), ("a ball", 1), ("B. a ball", 1), ("A", 0), ("a tube", 0), ("b", 1)],
)
def test_exact_with_options(said: str, worth: int) -> None:
    assert EXACT.match(CHOICE, said) == AnswerScore(worth, "match", said.casefold().removeprefix("a "))


def test_every_rule_for_own_data_has_its_name() -> None:
    assert list(RULES) == ["choice", "yes-no", "exact", "number", "words", "fitting"]


@given(st.lists(st.text("xyz", min_size=1, max_size=4), min_size=2, max_size=6, unique=True), st.data())
def test_rotations_keep_the_right_answer(options: list[str], data: st.DataObject) -> None:
    right = data.draw(st.sampled_from(options))
    item = BenchmarkItem("a/7", "Which?", tuple(options), ascii_uppercase[options.index(right)])
    made = list(rotations(item))
    assert len({one.options for one in made}) == len({one.id for one in made}) == len(options)
    assert all(one.options[ascii_uppercase.index(one.answer or "")] == right for one in made)
    assert {one.answer for one in made} == set(ascii_uppercase[: len(options)])
    assert replace(made[0], extra={}) == item


@pytest.mark.parametrize(
    ("options", "answer", "stays"),
    [
        (("x", "y"), "A", False),
        (("point A", "point B"), "A", False),
        (("A and B", "B"), "A", True),
        (("A/B", "y"), "A", True),
        (("X", "y"), "A", True),
        (("x", "y"), "C", True),
        (("x", "y"), "AB", True),
        (("x",), "A", True),
        ((), "x", True),
    ],
)
def test_options_that_speak_of_letters_stay(options: tuple[str, ...], answer: str, stays: bool) -> None:
    assert mentions_letters(BenchmarkItem("a/1", "", options, answer)) is stays


def scored(item: BenchmarkItem, value: float) -> ScoredItem:
    return ScoredItem(item, AnswerScore(value, "match"))


@given(st.lists(st.tuples(st.integers(2, 4), st.booleans()), min_size=1, max_size=6), st.data())
def test_a_question_counts_if_it_is_right_under_all_its_rotations(
    groups: list[tuple[int, bool]], data: st.DataObject
) -> None:
    found, right, first = [], [], []
    for number, (count, cut) in enumerate(groups):
        item = BenchmarkItem(f"a/{number}", "Which?", ("w", "x", "y", "z")[:count], "B", skill="s")
        values = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=count, max_size=count))
        rows = [scored(one, value) for one, value in zip(rotations(item), values, strict=True)]
        found += rows[:-1] if cut else rows
        right += [] if cut else [(item.id, float(min(values)))]
        first.append((item.id, values[0]))
    circular, once = CircularRule().metrics(found)
    if right:
        assert [(unit.key, unit.value) for unit in circular.units] == right
    assert circular.units, "even if none is whole"
    assert [(unit.key, unit.value) for unit in once.units] == first


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1)
)
def test_hallusion_counts_questions_figures_and_questions_over_figures(
    asked: list[tuple[int, int, int, bool]],
) -> None:
    rows = {(s, f, q): right for s, f, q, right in asked}
    found = [
        scored(
            BenchmarkItem(
                str(key), "", answer="Yes", extra={"cluster": s, "figure": f"{s}_{f}", "asked": f"{s}_{q}"}
            ),
            float(right),
        )
        for key, right in rows.items()
        for s, f, q in [key]
    ]
    figures = {(s, f) for s, f, _ in rows}
    questions = {(s, q) for s, _, q in rows}
    wanted = {
        "aAcc": list(rows.values()),
        "fAcc": [all(right for (s, f, _), right in rows.items() if (s, f) == key) for key in figures],
        "qAcc": [all(right for (s, _, q), right in rows.items() if (s, q) == key) for key in questions],
    }
    for metric in HallusionRule().metrics(found):
        values = [unit.value for unit in metric.units]
        assert (sum(values), len(values)) == (sum(wanted[metric.name]), len(wanted[metric.name]))
        assert len({unit.key for unit in metric.units}) == len(values)


def test_units_know_their_skills_and_clusters() -> None:
    items = [
        BenchmarkItem(str(n), "", skill="look", extra={"cluster": "p", "finer": f"f{n}"}) for n in range(2)
    ]
    coarse, fine = ChoiceRule().metrics([scored(item, 1.0) for item in items])
    assert [(unit.skill, unit.cluster) for unit in coarse.units] == [("look", "p")] * 2
    assert (fine.name, [unit.skill for unit in fine.units]) == ("accuracy by finer skill", ["f0", "f1"])
    deep = BenchmarkItem("0", "", skill="sets", extra={"depth": 3})
    _, by_depth = ChoiceRule().metrics([scored(deep, 0.0), scored(BenchmarkItem("1", ""), 1.0)])
    assert by_depth.name == "accuracy by depth"
    assert [(unit.skill, unit.value) for unit in by_depth.units] == [("3", 0), ("", 1)]
    (alone,) = ChoiceRule().metrics([scored(BenchmarkItem("9", ""), 1.0)])
    assert alone.units[0].cluster == "9"
