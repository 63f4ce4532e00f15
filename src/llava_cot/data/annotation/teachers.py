"""Teachers: who writes the four stages of a turn, and judges a conclusion; a model, or the program of scenes.

Owns what a teacher is to the annotating, its sampling, and its pictures. Knows no store, no budget and no
file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from llava_cot.core.question import LoadedImage
from llava_cot.data.annotation.teaching import judge_prompt, prompts_hash, write_prompt
from llava_cot.data.record import Record
from llava_cot.models.base import Finish, Model, Prompt, Sampling

# The project's own defaults; not greedy, since a second attempt must be able to come out otherwise.
_WRITING = Sampling(temperature=0.6, top_p=0.9, max_tokens=2048)
_JUDGING = Sampling(temperature=0.0, top_p=1.0, max_tokens=512)

# Turns that were annotated before this one: question and response.
Earlier = Sequence[tuple[str, str]]
Images = Callable[[], Awaitable[tuple[LoadedImage, ...]]]


@dataclass(frozen=True)
class Reply:
    """What a teacher wrote, and what that cost. `usd` is None where there is no price."""

    text: str
    finish: Finish = "eos"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None


class Unteachable(Exception):
    """This teacher has nothing to say to a turn, however often it is asked; the message is the reason."""


class Teacher(Protocol):
    """`settings` are what its replies depend on: a set is the work of one teacher with one kind of request.

    `priced` tells whether what its replies cost is known.
    """

    name: str
    priced: bool
    settings: dict[str, str]

    async def write(self, record: Record, number: int, earlier: Earlier, images: Images, seed: int) -> Reply:
        """The four stages of turn `number`. Raises Unteachable, ModelError, ImageError."""
        ...

    async def judge(self, record: Record, number: int, conclusion: str, seed: int) -> Reply:
        """Whether a conclusion means the same as the turn's standard answer. Raises like `write`."""
        ...


class ModelTeacher:
    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.priced = model.price(1, 1) is not None
        self.settings = {
            "teacher": model.name,
            "prompts": prompts_hash(),
            "sampling": f"temperature {_WRITING.temperature:g}, top-p {_WRITING.top_p:g}, "
            f"at most {_WRITING.max_tokens} tokens",
        }
        self._model = model

    async def write(self, record: Record, number: int, earlier: Earlier, images: Images, seed: int) -> Reply:
        return await self._sample(write_prompt(record.turns[number], earlier, await images()), _WRITING, seed)

    async def judge(self, record: Record, number: int, conclusion: str, seed: int) -> Reply:
        return await self._sample(judge_prompt(record.turns[number], conclusion), _JUDGING, seed)

    async def _sample(self, prompt: Prompt, how: Sampling, seed: int) -> Reply:
        sampling = Sampling(how.temperature, how.top_p, max_tokens=how.max_tokens, seed=seed)
        [one] = await self._model.sample(prompt, 1, sampling)
        return Reply(one.text, one.finish, one.prompt_tokens, one.completion_tokens, one.usd)


@contextmanager
def open_teacher(
    spec: str, model_name: str | None = None, at_once: int = 256, device: str = "auto", dtype: str = "auto"
) -> Iterator[Teacher]:
    """Open "scenes", or any model that `open_model` opens, for so many questions at once. Raises
    ModelError."""
    if spec == "scenes":
        yield SceneTeacher()
        return
    from llava_cot.models.registry import open_model

    opened = open_model(
        spec, model_name=model_name, device=device, dtype=dtype, max_batch=at_once, in_flight=at_once
    )
    with closing(opened):
        yield ModelTeacher(opened)


class SceneTeacher:
    """The programmatic teacher. It knows a scene by the record's id, and is never wrong about one."""

    def __init__(self) -> None:
        self.name = "scenes"
        self.priced = False
        self.settings = {"teacher": "scenes"}

    async def write(self, record: Record, number: int, earlier: Earlier, images: Images, seed: int) -> Reply:
        from llava_cot.core.stages import render
        from llava_cot.scenes.items import named_item

        item = named_item(record.id)
        if item is None or len(record.turns) != 1:
            raise Unteachable("it is no scene: the id of one is SPLIT-SEED-INDEX")
        turn = record.turns[0]
        if (turn.question, turn.options, turn.answer) != (
            item.question.text,
            item.question.options,
            item.answer,
        ):
            raise Unteachable(
                f"the scene {item.id} has another question or answer, from another version perhaps"
            )
        return Reply(render(item.stages))

    async def judge(self, record: Record, number: int, conclusion: str, seed: int) -> Reply:
        raise Unteachable("the conclusion is not the scene's answer")
