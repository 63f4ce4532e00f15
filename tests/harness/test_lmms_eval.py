"""lmms-eval's own command on a server: its client, its reading of a benchmark, its scores.

It lives in an environment of its own, so `make test` leaves this out: `make test-harness`.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, environment, run
from serving import PATIENCE, Served, running

from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import parse

COUNT, SEED = 100, 7
Json = dict[str, Any]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    assert run("scenes", folder, "--count", str(COUNT), "--split", "validation").returncode == 0
    return folder


def evaluate(
    scenes: Path, out: Path, url: str, model: str, task: str, how: str = f"seed={SEED}"
) -> tuple[Json, list[Json]]:
    """The harness's scores, and its samples in the order of the questions."""
    done = subprocess.run(
        [
            *(ROOT / ".venv-harness/bin/lmms-eval", "--model", "openai"),
            *("--model_args", f"model={model},base_url={url}"),
            *("--include_path", ROOT / "examples/lmms_eval", "--tasks", task),
            *("--gen_kwargs", how, "--log_samples", "--output_path", out),
        ],
        cwd=scenes,
        env=environment() | {"OPENAI_API_KEY": "none", "HF_HOME": str(out / "cache")},
        capture_output=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    [results], [samples] = out.rglob("*_results.json"), out.rglob("*_samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    scores: Json = json.loads(results.read_text())["results"][task]
    return scores, sorted(lines, key=lambda line: line["doc_id"])


def ask_each(server: Served, model: str, scenes: Path, questions: Sequence[Json]) -> list[str]:
    """What the official client is answered, when it sends the same."""

    def ask(question: Json) -> str:
        data = base64.b64encode((scenes / question["image"]).read_bytes()).decode()
        text = question_text(Question(question["question"], options=tuple(question["options"])))
        parts = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
            {"type": "text", "text": text},
        ]
        reply = server.ask(
            model=model,
            messages=[{"role": "user", "content": parts}],
            **{"seed": SEED, "temperature": 0.6, "top_p": 0.9, "max_tokens": 2048},
        )
        return str(reply.choices[0].message.content)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, questions))


@pytest.mark.parametrize(
    ("model", "task", "options"),
    [
        ("mini:single", "questions", ()),
        ("mini:stage-beam-2", "questions", ()),
        ("mini:stage-beam-2", "questions_raw", ("--raw",)),
    ],
)
def test_the_harness_scores_what_the_server_answers(
    scenes: Path, tmp_path: Path, model: str, task: str, options: tuple[str, ...]
) -> None:
    questions = [json.loads(line) for line in (scenes / "questions.jsonl").read_text().splitlines()]
    with running(*options) as (_, url):
        server = Served(url)
        scores, samples = evaluate(scenes, tmp_path, url, model, task)
        assert server.counted("llava_cot_questions_total") == COUNT
        assert server.counted('llava_cot_questions_total{outcome="answered"}') == COUNT
        contents = ask_each(server, model, scenes, questions)
    answers = [parse(content).conclusion for content in contents] if options else contents
    assert [sample["filtered_resps"] for sample in samples] == answers
    right = [answer == question["answer"] for answer, question in zip(answers, questions, strict=True)]
    [score] = [value for name, value in scores.items() if name.startswith("exact_match,")]
    assert score == pytest.approx(sum(right) / COUNT)
    assert sum(right) > COUNT / 2


def test_the_harness_and_eval_come_to_the_same_score(scenes: Path, tmp_path: Path) -> None:
    """One greedy pass, in which no seed has a part: the same answers, so the same score."""
    with running() as (_, url):
        scores, samples = evaluate(scenes, tmp_path, url, "mini:single", "questions", "temperature=0")
    ours = run(
        *("eval", scenes, "--rule", "exact", "--model", "mini", "--method", "greedy"),
        *("--out", tmp_path / "eval", "--json"),
    )
    assert ours.returncode == 0, ours.stderr
    [line] = json.loads(ours.stdout)["results"]
    [score] = [value for name, value in scores.items() if name.startswith("exact_match,")]
    assert line["questions"] == len(samples) == COUNT
    assert line["score"]["value"] == pytest.approx(100 * score)
