"""Pairs and answers of traces whose winners are known."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_traces import STAGES, WORDS, sentences, single, staged, tree
from PIL import Image

from llava_cot.core.images import load_image
from llava_cot.core.question import PLACE
from llava_cot.core.trace import Check, ImageRecord, Score, Trace
from llava_cot.data.checks.check import check
from llava_cot.data.preferences.from_traces import PreferencesResult, make_preferences
from llava_cot.data.preferences.pairs import pairs, winning
from llava_cot.data.reading import read_lines
from llava_cot.errors import DataError


def changed(trace: Trace, at: int, **update: Any) -> Trace:
    """The trace with one verdict changed."""
    verdicts = list(trace.verdicts)
    verdicts[at] = verdicts[at].model_copy(update=update)
    return trace.model_copy(update={"verdicts": tuple(verdicts)})


def rewritten(trace: Trace, at: int, **update: Any) -> Trace:
    """The trace with one candidate changed."""
    candidates = list(trace.candidates)
    candidates[at] = candidates[at].model_copy(update=update)
    return trace.model_copy(update={"candidates": tuple(candidates)})


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def make(tmp_path: Path, *traces: Trace, **options: Any) -> tuple[Path, PreferencesResult]:
    folder = tmp_path / "traces"
    folder.mkdir()
    for number, trace in enumerate(traces):
        trace.save(folder / f"{number:03}.json")
    return tmp_path / "out", make_preferences([folder], tmp_path / "out", **options)


def test_the_winner_is_chosen_after_the_answer_so_far() -> None:
    trace = staged(2)
    found, left = pairs(trace)
    assert [pair.stage for pair in found] == list(STAGES)
    assert not left
    prefix = ""
    for pair, stage in zip(found, STAGES, strict=True):
        tag = stage.upper()
        assert pair.prefix == prefix
        assert pair.chosen == f"<{tag}> {WORDS[stage]} </{tag}>"
        assert pair.rejected == f"<{tag}> Try 1. {WORDS[stage]} </{tag}>"
        prefix += pair.chosen


def test_the_loser_is_chosen_if_it_wins() -> None:
    trace = changed(staged(2), 0, winner=1)
    (first, *_), _ = pairs(trace)
    assert "Try 1" in first.chosen and "Try 1" not in first.rejected


def test_a_pair_says_who_judged() -> None:
    found, _ = pairs(staged(2))
    assert {(pair.stage, pair.judge, pair.decided_by) for pair in found} == {
        (stage, "self", "check" if stage == "reasoning" else "choice") for stage in STAGES
    }


def test_duels_that_decided_nothing_make_no_pair() -> None:
    found, left = pairs(staged(4))  # candidate 2 of each stage lost by the seed
    assert len(found) == 8
    assert left == {"the judge chose neither": 4}
    assert not any("Try 2" in pair.rejected for pair in found)


def _failed(id: int) -> Check:
    return Check(candidate=id, correct=False, reply="incorrect")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda trace: changed(trace, 0, decided_by="same"), "both texts are the same"),
        (lambda trace: rewritten(trace, 1, text=trace.candidates[0].text + "\n"), "both texts are the same"),
        (
            lambda trace: changed(trace, 0, decided_by="check", checks=(_failed(0), _failed(1))),
            "both were found",
        ),
        (lambda trace: rewritten(trace, 0, finish="length"), "out of tokens"),
    ],
)
def test_one_duel_is_left_out(spoil: Callable[[Trace], Trace], reason: str) -> None:
    found, left = pairs(spoil(staged(2)))
    assert [pair.stage for pair in found] == list(STAGES[1:])
    assert list(left.values()) == [1]
    assert reason in next(iter(left))


def test_a_judge_that_contradicts_itself_teaches_nothing(tmp_path: Path) -> None:
    out, made = make(tmp_path, staged(2), changed(staged(2), 0, winner=1), staged(2))
    assert [line["stage"] for line in lines_of(out / "preferences.jsonl")] == list(STAGES[1:])
    assert made.pairs == 3
    assert made.pairs_left["the opposite was chosen as well"] == 2


def wrong(trace: Trace) -> Trace:
    """The options are 1 and 2; the reference becomes the other one."""
    return trace.model_copy(update={"question": trace.question.model_copy(update={"reference": "1"})})


def test_winners_that_the_reference_shows_to_be_wrong_are_left_out_unless_wanted() -> None:
    found, left = pairs(wrong(staged(2)))
    assert found == []
    assert left == {"the winner's conclusion is wrong": 4}
    assert pairs(wrong(staged(2)), keep_wrong=True) == pairs(staged(2))


def test_where_the_search_did_not_go_on_nothing_is_known_to_be_wrong() -> None:
    trace = changed(wrong(staged(3)), 0, a=1, b=2, winner=1, decided_by="choice")
    assert [pair.chosen for pair in pairs(trace)[0]] == [trace.candidates[1].text]


def test_a_conclusion_that_lost_on_the_way_is_known() -> None:
    trace = rewritten(staged(2), 7, text="<CONCLUSION> 1 </CONCLUSION>")
    trace = changed(trace, 3, winner=7)
    assert len(pairs(trace)[0]) == 3  # 7 concluded 1, and the reference is 2


def test_sentences_go_on_from_sentences() -> None:
    trace = sentences(3, n=2).model_copy(update={"answer": None})
    found, _ = pairs(trace)
    assert [pair.prefix for pair in found] == [
        "",
        *("".join(c.text for c in trace.candidates[: 2 * i : 2]) for i in (1, 2)),
    ]


def test_candidates_of_different_parents_share_what_both_have() -> None:
    trace = staged(2)
    trace = rewritten(trace, 3, parent=1)
    found, _ = pairs(trace)
    first = [candidate.text for candidate in trace.candidates[:4]]
    assert (found[1].prefix, found[1].chosen, found[1].rejected) == (
        "",
        first[0] + first[2],
        first[1] + first[3],
    )


def test_scores_make_a_pair_of_the_best_and_the_worst_that_go_on_from_the_same() -> None:
    found, left = pairs(tree())
    assert not left  # the others are alone: each reasoning and conclusion goes on from another text
    [pair] = found
    assert (pair.stage, pair.judge, pair.decided_by) == ("caption", "critic", "score")
    assert pair.prefix == tree().candidates[0].text
    assert (pair.chosen, pair.rejected) == (
        "<CAPTION> Caption 5. </CAPTION>",
        "<CAPTION> Caption 0. </CAPTION>",
    )


def scored(trace: Trace, *values: float, judge: str = "critic") -> Trace:
    """The trace with scores of its first candidates in place of verdicts."""
    given = [
        Score(candidate=id, value=value, round=0, stage="summary", judge=judge)
        for id, value in enumerate(values)
    ]
    return trace.model_copy(update={"verdicts": (), "scores": (*trace.scores, *given)})


def test_what_scores_do_not_tell_makes_no_pair() -> None:
    assert pairs(scored(staged(3), 1.0, 1.0, 1.0))[1] == {"the scores are all the same": 1}
    assert pairs(scored(staged(3), 1.0)) == ([], {})
    same = rewritten(staged(2), 1, text=staged(2).candidates[0].text)
    assert pairs(scored(same, 1.0, 2.0))[1] == {"both texts are the same": 1}
    assert pairs(scored(rewritten(staged(2), 1, finish="length"), 1.0, 2.0))[1] == {
        "the winner ran out of tokens": 1
    }
    [pair] = pairs(scored(rewritten(staged(2), 0, finish="length"), 1.0, 2.0))[0]
    assert "Try 1." in pair.chosen


def test_scores_of_different_judges_are_not_compared_and_the_last_of_one_counts() -> None:
    two = scored(scored(staged(2), 0.0, judge="one"), 5.0, judge="other")
    assert pairs(two) == ([], {})
    again = scored(scored(staged(2), 1.0, 2.0), 3.0)
    assert [pair.chosen for pair in pairs(again)[0]] == [staged(2).candidates[0].text]


def test_a_high_score_of_a_wrong_conclusion_is_left_out_unless_wanted() -> None:
    trace = single()
    whole = [
        trace.candidates[0].model_copy(update={"id": id, "text": f"<CONCLUSION> {id} </CONCLUSION>"})
        for id in (0, 1)
    ]
    trace = scored(trace.model_copy(update={"candidates": tuple(whole), "chosen": (0,)}), 1.0, 2.0)
    assert pairs(trace)[1] == {"the winner's conclusion is wrong": 1}  # 1, and the reference is 2
    assert len(pairs(trace, keep_wrong=True)[0]) == 1


def test_a_folder_out_of_scores(tmp_path: Path) -> None:
    out, made = make(tmp_path, tree())
    [line] = lines_of(out / "preferences.jsonl")
    assert (line["decided_by"], line["judge"], made.pairs, made.answers) == ("score", "critic", 1, 1)


def test_only_right_and_whole_answers_are_winning() -> None:
    def why(trace: Trace) -> str:
        turn, reason = winning(trace)
        assert (turn is None) == bool(reason)
        return reason

    turn, _ = winning(staged(2))
    assert turn is not None
    assert (turn.answer, turn.options) == ("B", ("1", "2"))
    assert turn.response == staged(2).text
    unknown = staged(2).question.model_copy(update={"reference": None})
    assert why(staged(2).model_copy(update={"question": unknown})) == ""
    assert why(wrong(staged(2))) == "the answer is wrong"
    assert why(staged(2).model_copy(update={"answer": None})) == "there is no conclusion"
    assert why(staged(2).model_copy(update={"text": "2"})) == "the answer departs from the stage format"
    assert why(rewritten(staged(2), 4, finish="length")) == "the answer ran out of tokens"
    assert "do not tell" in why(staged(2).model_copy(update={"answer": "some"}))


def test_the_folder_is_one_that_check_finds_nothing_in(tmp_path: Path) -> None:
    out, made = make(tmp_path, staged(2), single(), wrong(single()))
    assert (made.traces, made.pairs, made.answers) == (3, 4, 2)
    assert made.answers_left == {"the answer is wrong": 1}
    assert not check(out).counts.keys() - {"duplicate"}
    records = [line.record for line in read_lines(out / "train.jsonl")]
    assert [record.turns[0].response for record in records if record] == [staged(2).text, single().text]
    assert len({record.id for record in records if record}) == 2
    assert not list(out.glob("*.part"))


def test_a_line_has_what_trl_needs(tmp_path: Path) -> None:
    out, _ = make(tmp_path, staged(2))
    line = lines_of(out / "preferences.jsonl")[1]
    assert line["prompt"] == [{"role": "user", "content": f"{staged(2).question.text}\nA. 1\nB. 2"}]
    summary, _, caption, other = (candidate.text for candidate in staged(2).candidates[:4])
    assert line["chosen"] == [{"role": "assistant", "content": summary + caption}]
    assert line["rejected"] == [{"role": "assistant", "content": summary + other}]
    assert (line["prefix"], line["stage"], line["judge"], line["model"]) == (
        summary,
        "caption",
        "self",
        "mini",
    )
    (name,) = line["images"]
    prefix = (out / name).read_bytes()
    assert base64.b64encode(prefix).decode() in (staged(2).question.images[0].data or "")
    assert load_image(prefix).pil.size == (320, 240)


def test_the_same_trace_twice_gives_nothing_twice(tmp_path: Path) -> None:
    out, made = make(tmp_path, staged(2), staged(2))
    assert (made.pairs, made.answers) == (4, 1)
    assert len(lines_of(out / "preferences.jsonl")) == 4
    assert made.pairs_left == {"the same pair was there before": 4}


def test_answers_to_one_question_have_ids_of_their_own(tmp_path: Path) -> None:
    question = staged(2).question.model_copy(update={"id": "q"})
    traces = [
        trace.model_copy(update={"question": question, "text": trace.text.replace("I will", will)})
        for trace, will in ((staged(2), "I will"), (staged(2), "We will"), (staged(2), "One will"))
    ]
    out, _ = make(tmp_path, *traces)
    assert [line["id"] for line in lines_of(out / "train.jsonl")] == ["q", "q-2", "q-3"]


def with_picture(data: str | None) -> Trace:
    image = ImageRecord(name="x.png", sha256="../../x", width=1, height=1, data=data)
    trace = staged(2)
    return trace.model_copy(update={"question": trace.question.model_copy(update={"images": (image,)})})


def test_a_trace_without_its_picture_is_left_out(tmp_path: Path) -> None:
    _, made = make(tmp_path, single(), with_picture(None), with_picture("https://x.example/x.png"))
    assert (made.pairs, made.answers) == (0, 1)
    assert made.pairs_left == {"a picture is not in the trace": 8}


def test_pictures_within_a_question_make_no_pair(tmp_path: Path) -> None:
    trace = staged(2)
    question = trace.question.model_copy(update={"text": f"How many are in {PLACE}?"})
    out, made = make(tmp_path, trace.model_copy(update={"question": question}))
    assert (made.pairs, made.answers) == (0, 1)
    assert made.pairs_left == {"pictures stand within the question, and TRL puts them before it": 4}
    [line] = read_lines(out / "train.jsonl")
    assert line.record is not None and line.record.turns[0].question == question.text


def test_a_file_without_a_line_is_not_written(tmp_path: Path) -> None:
    out, _ = make(tmp_path, single())
    assert sorted(path.name for path in out.iterdir()) == ["images", "train.jsonl"]


@pytest.mark.parametrize("data", ["%%%%", base64.b64encode(b"no picture").decode()])
def test_a_picture_that_is_none_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"000\.json: its picture x\.png"):
        make(tmp_path, with_picture(f"data:image/png;base64,{data}"))
    assert not list((tmp_path / "out").glob("*.jsonl*"))


def test_traces_in_lines_and_what_is_none(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.write_text(staged(2).model_dump_json() + "\n\n" + single().model_dump_json() + "\n")
    assert make_preferences([file], tmp_path / "out").traces == 2
    file.write_text(staged(2).model_dump_json() + "\n{}\n")
    with pytest.raises(ValueError, match=r"all\.jsonl, line 2, is not a trace"):
        make_preferences([file], tmp_path / "other")
    assert not list((tmp_path / "other").glob("*.jsonl*"))
    broken = staged(2).model_copy(update={"chosen": (99,)})
    file.write_text(broken.model_dump_json())
    with pytest.raises(ValueError, match="no candidate 99"):
        make_preferences([file], tmp_path / "other")


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train.jsonl").write_text("mine")
    with pytest.raises(DataError, match="holds other files"):
        make(tmp_path, single())
    assert (tmp_path / "out/train.jsonl").read_text() == "mine"


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the answer is wrong"):
        make(tmp_path, wrong(single()))


def test_a_picture_keeps_its_bytes(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.effect_noise((40, 30), 80).convert("RGB").save(data, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    out, _ = make(tmp_path, with_picture(url))
    (name,) = lines_of(out / "preferences.jsonl")[0]["images"]
    assert name.endswith(".jpg")
    assert (out / name).read_bytes() == data.getvalue()
