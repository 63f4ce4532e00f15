"""Files with labeled steps in the true layouts of PRM800K and VisualPRM400K, with texts of our own."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llava_cot.data.rollouts.import_steps import import_rollouts
from llava_cot.data.rollouts.rollout_file import QuestionRollouts, read_rollouts
from llava_cot.errors import DataError


def step(text: str, rating: int | None, *others: tuple[str, int]) -> dict[str, Any]:
    completions = [{"text": t, "rating": r, "flagged": None} for t, r in ((text, rating), *others)]
    return {"completions": completions, "human_completion": None, "chosen_completion": 0}


def solution(
    steps: list[dict[str, Any]], reason: str, generated: list[str] | None = None, given: str | None = None
) -> dict[str, Any]:
    """A line of PRM800K: of phase 2 with a generated solution, else of phase 1."""
    return {
        "labeler": "6a2f", "timestamp": "2023-01-22T04:34:27.052924", "generation": 9 if generated else None,
        "is_quality_control_question": False, "is_initial_screening_question": False,
        "question": {
            "problem": "What is $2+3$ doubled?", "ground_truth_solution": "It is 10.",
            "ground_truth_answer": "10", "pre_generated_steps": generated, "pre_generated_answer": given,
            "pre_generated_verifier_score": 0.1 if generated else None,
        },
        "label": {"steps": steps, "total_time": 1000, "finish_reason": reason},
    }  # fmt: skip


def response(
    question: str, steps: list[tuple[str, float]], image: Any = "Set-Raw/geo/1.png"
) -> dict[str, Any]:
    """A line of VisualPRM400K's raw version."""
    return {
        "image": image, "question": f"{question}\nThink step by step.", "question_orig": question,
        "answer": "10", "response": "\n\n".join(text for text, _ in steps), "num_mc_sequences": 16,
        "steps_with_score": [
            {"step": text, "score": score, "num_mc_correct": round(16 * score), "num_mc_total": 16}
            for text, score in steps
        ],
    }  # fmt: skip


def imported(folder: Path, lines: list[Any], **more: Any) -> list[QuestionRollouts]:
    folder.mkdir(exist_ok=True)
    file = folder / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    import_rollouts(file, folder / "out", **more)
    return list(read_rollouts(folder / "out"))


def test_solutions_of_prm800k_keep_the_ratings_of_their_steps(tmp_path: Path) -> None:
    wrong = ["2+3 is 5.", "Five doubled is 25.", "# Answer\n\n25"]
    lines = [
        solution([step(wrong[0], 1), step(wrong[1], -1, ("It is 10.", 1))], "found_error", wrong, "25"),
        solution([step("2+3 is 5.", 0), step("It is 10.", 1)], "solution"),
        solution([step("2+3 is 5.", 0), step("It is 10.", 1)], "solution"),
        solution([step("Hm.", 0)], "give_up"),
    ]
    [question] = imported(tmp_path, lines)
    assert (question.question, question.answer, question.images) == ("What is $2+3$ doubled?", "10", ())
    first, second = question.samples
    assert (first.text, first.right, first.times) == ("\n".join(wrong), False, 1)
    assert [(first.text[:end], value) for end, value in first.step_values()] == [
        (wrong[0], 1.0),
        ("\n".join(wrong[:2]), 0.0),  # what follows the error has no labels
    ]
    assert (second.text, second.right, second.times) == ("2+3 is 5.\nIt is 10.", True, 2)
    assert second.step_values() == [(9, 1.0), (19, 1.0)]
    card = (tmp_path / "out/README.md").read_text()
    assert "| a solution without an end | 1 |" in card and "| imported | labels.jsonl |" in card


def test_a_step_that_a_person_wrote_is_right_and_one_without_a_rating_unknown(tmp_path: Path) -> None:
    written = {
        "text": "It is 10.",
        "rating": None,
        "source": "human",
        "flagged": False,
        "corrected_rating": None,
    }
    bad = step("It is 25.", -1) | {"human_completion": written, "chosen_completion": None}
    [question] = imported(tmp_path, [solution([step("2+3 is 5.", None), bad], "solution")])
    [sample] = question.samples
    assert sample.text == "2+3 is 5.\nIt is 10." and sample.step_values() == [(19, 1.0)]


def test_responses_of_visualprm_keep_scores_and_pictures(tmp_path: Path) -> None:
    root = tmp_path / "Set-Raw"
    (root / "annotations").mkdir(parents=True)
    (root / "images/geo").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(root / "images/geo/1.png")
    lines = [
        response(
            "<image>\nHow long is it?", [("Look.", 0.5), ("It is 10.", 0.875), ("Final answer: 10", 1.0)]
        ),
        response("<image>\nHow wide?", [("So.", 0.0)], ["Set-Raw/geo/nowhere.png"]),
        response("<image>\nHow long is it?", [("Look.", 0.125), ("It is 9.", 0.0), ("Final answer: 9", 0.0)]),
        response("How much?", [], []),
        response("<image> <image> How?", [("It is 10.", 1.0)]),
        response("How much?", [("It is 10.", 1.0)], []),
    ]
    (root / "annotations/geo.jsonl").write_text("\n".join(map(json.dumps, lines)))
    summary = import_rollouts(root / "annotations", tmp_path / "out")
    first, second = read_rollouts(tmp_path / "out")
    assert first.question.endswith("How long is it?") and first.answer == "10"
    [picture] = first.pictures(tmp_path / "out")
    assert picture.file is not None and picture.file.samefile(root / "images/geo/1.png")
    assert [sample.right for sample in first.samples] == [True, False]
    right = first.samples[0]
    assert [(right.text[:end], value) for end, value in right.step_values()] == [
        ("Look.", 0.5),
        ("Look.\n\nIt is 10.", 0.875),
        ("Look.\n\nIt is 10.\n\nFinal answer: 10", 1.0),
    ]
    assert (second.question, second.images) == ("How much?", ())
    missing = "a picture that is not there (--images names the folder)"
    marks = "other marks of pictures (<image>) than pictures"
    assert summary.left_out == {missing: 1, "no steps": 1, marks: 1}
    assert (summary.questions, summary.mixed, summary.labels) == (2, 1, 7)


def test_pictures_are_found_in_the_folder_that_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    lines = [response("How long?", [("It is 10.", 1.0)], "Set-Raw/1.png")]
    assert len(imported(tmp_path / "a", lines)) == 0
    assert len(imported(tmp_path / "b", lines, images=tmp_path)) == 1
    lines[0]["image"] = "Set-Raw/../../1.png"
    assert len(imported(tmp_path / "c", lines)) == 0  # no path leaves the folder


def test_balanced_questions_alone(tmp_path: Path) -> None:
    steps = [("It is 10.", 1.0)], [("It is 9.", 0.0)], [("It is 8.", 0.0)]
    lines = [response("How long?", list(some), []) for some in steps]
    lines.append(response("How wide?", list(steps[0]), []))
    [question] = imported(tmp_path, lines, balanced=True)
    assert [sample.right for sample in question.samples] == [True, False]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([1], "it is no object"),
        ({"image": "1.png"}, "as PRM800K"),
        (response("How?", [("It is 10.", 1.5)]), "no share from 0 to 1"),
        ({"question": {"ground_truth_answer": "1"}, "label": {"steps": 3}}, "`label.steps` is a number"),
        ({"question": 3, "label": {"steps": []}}, "`question` is a number"),
    ],
)
def test_another_layout_is_refused_with_its_place(line: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"labels.jsonl, line 1: .*{said}"):
        imported(tmp_path, [line])


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        import_rollouts(tmp_path / "nowhere.jsonl", tmp_path / "out")
    with pytest.raises(DataError, match=r"there is no \*.jsonl in "):
        import_rollouts(tmp_path, tmp_path / "out")
