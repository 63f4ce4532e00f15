"""Models that think before they answer: bounds, paragraphs, and models that do not go on inside a thought."""

import random
from dataclasses import replace

import pytest

from llava_cot.core.format_file import read_format
from llava_cot.core.question import Question
from llava_cot.core.stages import THINKING, make_format, validate
from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import ask
from llava_cot.search.methods.base import METHODS
from llava_cot.search.search import TextDelta
from llava_cot.search.stage_prompting import tagged_instruction

QUESTION = "How many cubes are there?"
THOUGHT = "Let me look. There is a red cube.\n\nThere is a blue one.\n\nThat makes two.\n"
WHOLE = f"{THOUGHT}</think>\n\nI see two cubes. The answer is 2."
SEARCHES = [name for name, known in METHODS.items() if not known.requires and not known.constrained]
# With prompts of their own, or a stage before the thinking.
OTHERS = ("direct", "staged-prompt", "cot", "swires", "swires-script")


def thinker(continues: bool = True, whole: str = WHOLE) -> ScriptedModel:
    """Writes the same thought and answer, as far as it is not begun; judges by the first one."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        text = prompt.messages[-1].text
        if "I choose response" in text:
            return "I choose response 1."
        if "Write the answer now" in text:
            return "2"
        assert prompt.thinking == ("<think>", "</think>")
        if whole.startswith(prompt.prefix):
            return whole[len(prompt.prefix) :]
        return "It is 2." if "</think>" in prompt.prefix else " but why? " * 3 + "</think>\n\nIt is 2."

    model = ScriptedModel(script, thinks=True, continues_prefix=continues, choose=lambda p, o: [0.0] * len(o))
    return model


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("method", [name for name in SEARCHES if name not in OTHERS])
async def test_every_search_gives_the_thinking_and_the_answer(method: str, continues: bool) -> None:
    trace = await ask(thinker(continues), None, QUESTION, method=method, fmt=THINKING)
    assert trace.staging == "thinking" and not validate(trace.text, THINKING)
    assert trace.stages["thinking"] == THOUGHT.strip()
    assert trace.answer == "I see two cubes. The answer is 2."


async def test_a_search_over_stages_goes_on_at_the_closing_tag() -> None:
    model = thinker()
    trace = await ask(model, None, QUESTION, fmt=THINKING, n=2)
    asked = [
        call for call in model.calls if call.prompt.thinking and not call.prompt.prefix.startswith("\n<")
    ]
    assert [call.prompt.prefix for call in asked[:2]] == ["", f"{THOUGHT}</think>"]
    assert [call.sampling.stop for call in asked[:2]] == [("</think>",), ()]
    assert [c.stage for c in trace.candidates] == ["thinking"] * 2 + ["answer"] * 2
    duels = [call.prompt for call in model.calls if "I choose response" in call.prompt.messages[-1].text]
    assert all(prompt.prefix == "\n</think>\n\n" for prompt in duels), "a judge does not think"


async def test_sentences_are_paragraphs_of_the_thinking() -> None:
    trace = await ask(thinker(), None, QUESTION, method="sentence-beam", n=1, fmt=THINKING)
    assert [candidate.text for candidate in trace.candidates] == [
        "<think>Let me look. There is a red cube.",
        "\n\nThere is a blue one.",
        "\n\nThat makes two.\n</think>",
        "\n\n<answer>\n\nI see two cubes.",
        " The answer is 2. </answer>",
    ]


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("method", ["single", "stage-beam", "sentence-beam"])
async def test_the_thinking_is_cut_closed_and_answered(method: str, continues: bool) -> None:
    trace = await ask(thinker(continues), None, QUESTION, method=method, n=1, fmt=THINKING, think_tokens=8)
    assert not validate(trace.text, THINKING) and trace.warnings == ()
    assert trace.stages["thinking"] == "Let me look. There is a red cube."
    assert trace.answer == ("It is 2." if continues else "2")


async def test_a_bound_that_nobody_asked_for_is_said_to_have_cut() -> None:
    trace = await ask(
        thinker(), None, QUESTION, method="single", fmt=THINKING, sampling=Sampling(max_tokens=12)
    )
    assert trace.stages["thinking"] == "Let me look. There is a red cube.\n\nThere"
    assert trace.answer == "It is 2." and [found.kind for found in trace.warnings] == ["cut"]


@pytest.mark.parametrize("method", ["single", "stage-beam", "sentence-beam"])
async def test_a_thought_that_is_too_short_goes_on(method: str) -> None:
    trace = await ask(
        thinker(), None, QUESTION, method=method, n=1, fmt=THINKING, min_think_tokens=20, think_tokens=60
    )
    assert not validate(trace.text, THINKING)
    thought = trace.stages["thinking"] or ""
    assert thought.startswith(THOUGHT.strip() + "\n\nWait, but why?")
    assert thought.count("Wait") == 1, "the second part made it long enough"
    assert trace.answer == "It is 2."


async def test_a_model_that_always_closes_at_once_comes_to_an_end() -> None:
    model = ScriptedModel(lambda prompt, rng: "</think>2", thinks=True)
    trace = await ask(model, None, QUESTION, method="single", fmt=THINKING, min_think_tokens=500)
    assert (trace.stages["thinking"] or "").count("Wait") == 16 and trace.answer is not None


async def test_a_minimum_needs_a_model_that_goes_on_inside_its_thinking() -> None:
    with pytest.raises(ModelError, match="cannot go on inside its thinking"):
        await ask(thinker(continues=False), None, QUESTION, fmt=THINKING, min_think_tokens=3)


@pytest.mark.parametrize("options", [{}, {"think_tokens": 8}, {"min_think_tokens": 20}])
@pytest.mark.parametrize("continues", [False, True])
async def test_what_is_streamed_makes_up_the_text(options: dict[str, int], continues: bool) -> None:
    if "min_think_tokens" in options and not continues:
        return
    texts: list[str] = []
    trace = await ask(
        thinker(continues), None, QUESTION, method="single", fmt=THINKING, **options,  # type: ignore[arg-type]
        on_event=lambda event: texts.append(event.text) if isinstance(event, TextDelta) else None,
    )  # fmt: skip
    assert "".join(texts) in (trace.text, "")
    assert len(texts) > 5 or not continues or "min_think_tokens" in options


async def test_it_is_found_out_who_thinks() -> None:
    async def staging(script: object, **options: bool) -> str | None:
        model = ScriptedModel(lambda prompt, rng: script, **options)  # type: ignore[arg-type, return-value]
        return (await ask(model, None, QUESTION, method="single", fmt=THINKING)).staging

    assert await staging("</think>2", thinks=True, staged=False) == "thinking"
    assert await staging("<think>1</think>2") == "thinking"
    assert await staging("It is 2.", staged=False) == "prompted"


async def test_samples_do_not_depend_on_how_they_are_split_over_calls() -> None:
    def varied(prompt: Prompt, rng: random.Random) -> str:
        return f"{rng.random()}</think>{rng.random()}" if not prompt.prefix else f"{rng.random()}"

    texts = []
    for method in ("majority", "adaptive-majority", "confidence-majority"):
        trace = await ask(
            ScriptedModel(varied, thinks=True), None, QUESTION, method=method, n=5, fmt=THINKING
        )
        texts.append([candidate.text for candidate in trace.candidates])
    assert texts[0] == texts[1] == texts[2] and len({*texts[0]}) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"think_tokens": 5}, "add --format thinking"),
        ({"fmt": THINKING, "think_tokens": 0}, "think_tokens is 0"),
        ({"fmt": THINKING, "think_tokens": 5000}, "give 1 to 2048"),
        ({"fmt": THINKING, "think_tokens": 5, "min_think_tokens": 6}, "more than think_tokens"),
        ({"fmt": THINKING, "think_tokens": "5"}, "think_tokens is '5'"),
    ],
)
async def test_bounds_that_cannot_be_kept_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        await ask(thinker(), None, QUESTION, **options)  # type: ignore[arg-type]


def test_the_format(tmp_path: object) -> None:
    assert make_format("thinking") is THINKING is read_format("thinking")
    file = f"{tmp_path}/own.yaml"
    stages = (
        "stages: [{name: thinking, open: '[THINK]', close: '[/THINK]'}, {name: answer}]\nthinking: true\n"
    )
    with open(file, "w") as out:
        out.write(stages)
    own = read_format(file)
    assert own.thinking and own.pairs[0] == ("[THINK]", "[/THINK]")
    with pytest.raises(ValueError, match="two stages"):
        replace(THINKING, stages=(*THINKING.stages, make_format("more").stages[0]), final="more")
    assert "<answer> the answer alone" in tagged_instruction(Question(QUESTION), THINKING)


@pytest.mark.parametrize("method", ["single", "stage-beam", "sentence-beam", "best-of-n"])
@pytest.mark.parametrize(
    "whole",
    [
        "It may be <answer> b </answer>. Or not.</think>\n\nIt is 2.",  # what is thought may name any tag
        "x</think> </think>\n\nIt is 2.",  # it thinks again
        "x</think>\n\n<answer>It is 2.</answer>",  # it puts our tags itself
    ],
)
async def test_tags_where_they_do_not_belong(whole: str, method: str) -> None:
    trace = await ask(thinker(whole=whole), None, QUESTION, method=method, fmt=THINKING)
    assert trace.answer == "It is 2."
