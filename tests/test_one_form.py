"""Answers in stages have one form, byte for byte.

The teacher writes it, the data set holds it, a model learns and writes it, and a search goes on from it.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from llava_cot import Sampling, ask, ask_sync, open_model
from llava_cot.core.stages import LLAVA_COT, parse, render, validate
from llava_cot.data.annotation.annotate import annotate_to
from llava_cot.data.annotation.teachers import SceneTeacher
from llava_cot.data.reading import RecordFile
from llava_cot.data.sources.rendered import read_scenes
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.registry import MINI
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.items import SceneItem, make_items
from llava_cot.train.encode import IGNORE, RowEncoder

COUNT = 10


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> RecordFile:
    """Records of both difficulties, as `data annotate --teacher scenes` leaves them."""
    folder: Path = tmp_path_factory.mktemp("staged")
    records = [*read_scenes("train", 7, COUNT, "hard"), *read_scenes("train", 7, COUNT, "standard")]
    annotate_to(folder, records, SceneTeacher())
    return RecordFile(folder)


def items() -> list[SceneItem]:
    return [*make_items("train", 7, COUNT, "hard"), *make_items("train", 7, COUNT, "standard")]


def test_the_data_set_holds_what_the_teacher_says(annotated: RecordFile) -> None:
    written = {record.id.removeprefix("scenes/"): record.turns[0].response for record in annotated}
    assert written == {item.id: render(item.stages) for item in items()}
    for text in written.values():
        assert text is not None and validate(text) == [] and render(parse(text)) == text


def test_a_model_learns_it_and_the_end_of_the_answer(annotated: RecordFile) -> None:
    checkpoint = load_checkpoint(MINI, "cpu", "float32")
    encoder, tokenizer = RowEncoder(checkpoint, "staged"), checkpoint.processor.tokenizer
    for record in annotated:
        labels = encoder.row(record).labels[0].tolist()
        learned = tokenizer.decode([label for label in labels if label != IGNORE])
        assert learned == f"{record.turns[0].response}{tokenizer.eos_token}"


@pytest.mark.parametrize("method", ["stage-beam", "best-of-n", "sentence-beam"])
def test_a_search_goes_on_from_it(annotated: RecordFile, method: str) -> None:
    async def search(item: SceneItem) -> None:
        text = render(item.stages)
        model = ScriptedModel(lambda prompt, rng: text.removeprefix(prompt.prefix))
        trace = await ask(model, None, item.ask(), method=method, n=2, judge="likelihood")
        assert trace.text == text
        assert {call.prompt.prefix for call in model.calls} <= {text[:end] for end in range(len(text))}

    async def all_of_them() -> None:
        await asyncio.gather(*(search(item) for item in items()))

    asyncio.run(all_of_them())


@pytest.mark.parametrize("method", ["single", "stage-beam"])
def test_mini_writes_it(method: str) -> None:
    with closing(open_model("mini")) as model:
        for item in make_items("validation", 7, 10):
            greedy = Sampling(temperature=0)
            trace = ask_sync(model, None, item.ask(), method=method, n=1, sampling=greedy)
            assert render(parse(trace.text, LLAVA_COT)) == trace.text
