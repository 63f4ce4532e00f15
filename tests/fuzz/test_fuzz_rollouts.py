"""A fuzzer of rollouts, and of answers with labeled steps that are imported."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from fuzzing import fuzz, mutate_document

from llava_cot.data.rollouts.import_steps import import_rollouts
from llava_cot.data.rollouts.rollout_file import read_rollouts, write_rollouts
from llava_cot.errors import DataError
from llava_cot.view.rollouts_page import rollouts_page

_LINES = [
    {
        "id": "a/1", "images": ["1.png"], "question": "How many?", "options": ["1", "2"], "answer": "B",
        "extra": {"type": "x"},
        "samples": [
            {"text": "<SUMMARY> So. </SUMMARY>\n\n<CONCLUSION> B </CONCLUSION>", "right": True, "times": 2,
             "logprob": -1.5, "values": {"summary": 0.5, "conclusion": 1.0}},
            {"text": "One. Two.", "right": False, "times": 1, "steps": [[4, 1.0], [9, 0.25]]},
        ],
    },
    {
        "question": {
            "problem": "How many?", "ground_truth_answer": "2", "pre_generated_steps": ["One.", "So 2."],
            "pre_generated_answer": "2",
        },
        "label": {
            "steps": [
                {"completions": [{"text": "One.", "rating": 1}], "human_completion": None,
                 "chosen_completion": 0},
                {"completions": [{"text": "No.", "rating": -1}], "human_completion": {"text": "So 2."},
                 "chosen_completion": None},
            ],
            "finish_reason": "solution",
        },
    },
    {
        "image": "1.png", "question": "<image>\nHow many?", "question_orig": "How many?", "answer": "2",
        "response": "One.\n\nSo 2.",
        "steps_with_score": [{"step": "One.", "score": 0.5}, {"step": "So 2.", "score": 1}],
    },
]  # fmt: skip


def test_rollouts(tmp_path: Path) -> None:
    shutil.copy("examples/scene.png", tmp_path / "1.png")
    file, out = tmp_path / "rollouts.jsonl", tmp_path / "out"

    def use(data: bytes) -> None:
        file.write_bytes(data)
        try:
            found = list(read_rollouts(file))
            write_rollouts(tmp_path / "again.jsonl", found)
            assert len(list(read_rollouts(tmp_path / "again.jsonl"))) == len(found)
            rollouts_page(file, 3).encode()
        except DataError as refusal:
            assert "\n" not in str(refusal)
        shutil.rmtree(out, ignore_errors=True)
        import_rollouts(file, out)
        list(read_rollouts(out))

    def make(rng: random.Random) -> bytes:
        lines = [json.dumps(line).encode() for line in _LINES]
        return b"\n".join(mutate_document(rng, rng.choice(_LINES), lines) for _ in range(rng.choice((1, 3))))

    fuzz("rollouts", 0.06, make, use)
