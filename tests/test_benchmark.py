"""The benchmark of speed, on a model that takes milliseconds: what it runs is what it says it compares."""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import ask as benchmark  # noqa: E402
from floor import Call, Floor, Pass, Runner, Watched, plan  # noqa: E402
from plain import Plain, open_plain  # noqa: E402
from published import Limits, Published  # noqa: E402
from random_mllama import TINY, make_random  # noqa: E402
from table import Run, Setting, markdown, rows  # noqa: E402

from llava_cot import ask, open_model  # noqa: E402
from llava_cot.core.question import Question  # noqa: E402
from llava_cot.core.stages import parse, validate  # noqa: E402
from llava_cot.core.trace import Usage  # noqa: E402
from llava_cot.models.base import Prompt, Sampling  # noqa: E402
from llava_cot.scenes.items import make_item  # noqa: E402

LIMITS = Limits(temperature=0.6, top_p=0.9, max_tokens=64, reply_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random(tmp_path_factory.mktemp("checkpoint") / "tiny", TINY)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Plain:
    return open_plain(folder)


@pytest.fixture(scope="module")
def question() -> Question:
    return make_item("validation", 0, 0).ask()


@pytest.fixture
def encodings(plain: Plain) -> Iterator[list[int]]:
    """One entry for each pass of the image encoder."""
    seen: list[int] = []
    encoder = plain.model.model.vision_model
    handle = encoder.register_forward_hook(lambda module, given, output: seen.append(1), always_call=True)
    yield seen
    handle.remove()


def test_the_random_model_recites_staged_answers_that_differ(plain: Plain, question: Question) -> None:
    texts = [Published(plain, LIMITS, random.Random(seed)).single(question) for seed in range(4)]
    assert all(validate(text) == [] for text in texts)
    assert len(set(texts)) > 1
    assert {len((words or "").split()) for text in texts for words in parse(text).stages.values()} == {
        TINY.words
    }


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_published_procedure_does_everything_one_by_one(
    plain: Plain, question: Question, encodings: list[int], n: int
) -> None:
    theirs = Published(plain, LIMITS, random.Random(0))
    text = theirs.stage_beam(question, n)
    games, verified = 4 * (n - 1), 2 * (n - 1)
    assert validate(text) == []
    assert theirs.usage.model_calls == 4 * n + games + verified
    assert len(encodings) == 4 * n + games
    stage = TINY.words + 3  # an opening tag of one token, a closing tag of two
    assert theirs.usage.completion_tokens == 4 * n * stage + (games + verified) * LIMITS.reply_tokens


def test_a_candidate_goes_on_from_the_tokens_kept(plain: Plain, question: Question) -> None:
    kept = plain.tokenizer("<SUMMARY> a</SUMMARY>", add_special_tokens=False).input_ids
    prompt = Prompt.of(question.text, question.images, "<SUMMARY> a</SUMMARY>", tuple(kept))
    inputs = plain.encode(prompt)
    assert inputs["input_ids"][0, -len(kept) :].tolist() == kept
    assert inputs["cross_attention_mask"].shape[1] == inputs["input_ids"].shape[1]
    assert inputs["cross_attention_mask"][0, -1, 0, 0] == 1


def test_the_plan_has_every_token_once_and_shares_every_prefix(question: Question) -> None:
    ids = {"one": [1, 2, 3], "two": [1, 2, 3, 7, 8], "three": [1, 2, 9, 9]}
    calls = [
        Call(Prompt.of("one", question.images), 0, ((7, 8), (7, 6)), (3, 2)),
        Call(Prompt.of("two", question.images), 3, ((5,), (5,)), (2, 2)),
        Call(Prompt.of("three", question.images), 3, ((),), (1,)),
    ]
    reading, steps = plan(calls, lambda prompt: ids[prompt.messages[0].text])
    assert reading == [
        Pass(1, 3, 0, True, 1),  # one, and its picture
        Pass(1, 1 + 2, 3, True, 1),  # two is all known but its last token; three but two of its tokens
    ]
    assert steps == [
        Pass(2, 1, 3, True, 1),
        Pass(1, 1, 4, True, 1),  # the shorter row has left
        Pass(2, 1, 5, True, 1),
    ]
    total = sum(length for call in calls for length in call.lengths)
    assert sum(p.width * p.times for p in steps) + sum(len(c.lengths) for c in calls) == total


async def test_calls_are_watched_in_the_order_in_which_they_wait(folder: Path, question: Question) -> None:
    model = open_model(folder, device="cpu")
    watched = Watched(model)
    trace = await ask(watched, None, question, n=3, stages="trained", sampling=Sampling(max_tokens=64))
    model.close()
    assert len([c for c in watched.calls if len(c.lengths) == 3]) == 4
    assert sum(len(call.lengths) for call in watched.calls) == trace.usage.model_calls
    assert sum(sum(call.lengths) for call in watched.calls) == trace.usage.completion_tokens
    first, *others = sorted(watched.calls, key=lambda call: call.begin)
    assert first.begin == 0
    assert all(call.begin >= max(first.lengths) for call in others)


def test_the_floor_computes_what_the_model_computes(plain: Plain, question: Question) -> None:
    """Rows forked into a cache that is written in place give the logits of a pass over the whole text."""
    prompt = Prompt.of(question.text, question.images)
    inputs = plain.encode(prompt)
    length = inputs["input_ids"].shape[1]
    runner = Runner(plain, prompt)
    more = plain.encode(Prompt.of(question.text, question.images, " a b c"))
    new = more["input_ids"][:, length:]
    with torch.inference_mode():
        expected = plain.model(**more).logits[0, length:]
        cache = runner._filled(Pass(2, 1, length, True, new.shape[1]))
        mask = inputs["cross_attention_mask"][:, -1:].expand(2, -1, -1, -1)
        for i in range(new.shape[1]):
            step = new[:, i : i + 1].expand(2, 1)
            logits = plain.model(input_ids=step, past_key_values=cache, cross_attention_mask=mask).logits
            assert torch.allclose(logits[:, -1], expected[i].expand(2, -1), atol=1e-4)


def test_ratios_are_taken_to_the_right_rows() -> None:
    def run(seconds: float, *floors: Floor) -> list[Run]:
        return [Run(2, 2 * s, Usage(model_calls=4), floors) for s in (seconds, 100 * seconds, seconds)]

    ours = Setting("ours", "stage-beam", 4, "self")
    table = rows(
        {
            Setting("published", "single", 1): run(2.0),
            Setting("published", "stage-beam", 4, "self"): run(30.0),
            Setting("ours", "single", 1): run(1.0),
            ours: run(3.0, Floor(1.0, 0.5, 9), Floor(3.0, 0.5, 9)),
            Setting("ours", "single", 1, None, 32): run(0.25),
            Setting("ours", "stage-beam", 4, "self", 32): run(1.0),
        }
    )
    assert [row.seconds for row in table] == [2.0, 30.0, 1.0, 3.0, 0.25, 1.0]
    assert [row.to_single for row in table] == [1.0, 15.0, 1.0, 3.0, 1.0, 4.0]
    assert [row.times_faster for row in table] == [None, None, 2.0, 10.0, 8.0, 30.0]
    assert table[3].to_floor == 3.0 / 2.5 and table[3].to_steps == 1.5
    assert table[3].model_calls == 2.0
    lines = markdown(table).splitlines()
    assert len(lines) == 8 and len({line.count("|") for line in lines}) == 1


def test_the_whole_benchmark_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--json", "--model", str(folder)])
    result = json.loads(capsys.readouterr().out)
    table = {(r["who"], r["method"], r["n"], r["judge"], r["at_once"]): r for r in result["rows"]}
    search = table["ours", "stage-beam", 2, "self", 1]
    assert all(search[name] > 0 for name in ("seconds", "to_single", "times_faster", "to_floor", "to_steps"))
    assert table["published", "stage-beam", 2, "self", 1]["model_calls"] == 14
    assert table["ours", "stage-beam", 2, "logits", 2]["to_floor"] is None
    assert result["parameters"] > 50_000
