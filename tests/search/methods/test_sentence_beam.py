import random
from dataclasses import replace

from playing import PICTURE, QUESTION, WHOLE, Referee, remainder, run_method, tagged

from llava_cot.core.trace import Trace
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel


async def search(model: ScriptedModel, judge: Referee, n: int = 2, max_tokens: int = 99) -> Trace:
    sampling = Sampling(max_tokens=max_tokens, seed=5)
    return await run_method("sentence-beam", model, judge, n=n, sampling=sampling)


def texts(trace: Trace) -> list[str]:
    return [trace.candidates[i].text for i in trace.chosen]


async def test_the_winner_of_each_sentence_is_continued() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        done = prompt.prefix.count(".")
        if done == 3:
            return tagged("conclusion", "2")
        return "".join(f" s{k} {rng.randrange(10**9)}." for k in range(done, 3)).removeprefix(
            "" if done else " "
        )

    def number(text: str) -> float:
        return 0 if "<" in text else float(text.split()[1].rstrip("."))

    model, judge = ScriptedModel(script), Referee(number)
    trace = await search(model, judge, n=3)
    prefix, tokens = "", ()
    for k, call in enumerate(model.calls):
        best = max((c for c in trace.candidates if c.round == k), key=lambda c: number(c.text))
        assert trace.chosen[k] == best.id
        assert call.prompt == Prompt.of(QUESTION.text, (PICTURE,), prefix, tokens)
        assert {"</CONCLUSION>", ". ", "?\n"} <= set(call.sampling.stop)
        prefix, tokens = prefix + best.text, tokens + best.tokens
    assert {stage for stage, _, _, _ in judge.duels} == {"sentence"}
    assert [context for _, context, _, _ in judge.duels[:4]] == ["", "", texts(trace)[0], texts(trace)[0]]
    assert len(trace.verdicts) == 2 * len(model.calls)


async def test_sentences_end_where_sentences_end() -> None:
    whole = "<SUMMARY> It is 3.14. Or is it? Yes!\nWell. </SUMMARY> <CONCLUSION> 3.14 </CONCLUSION>"
    trace = await search(ScriptedModel(remainder(whole)), Referee(len))
    assert texts(trace) == [
        "<SUMMARY> It is 3.14.",
        " Or is it?",
        " Yes!",
        "\nWell.",
        " </SUMMARY>",
        " <CONCLUSION> 3.14 </CONCLUSION>",
    ]
    assert trace.text == whole
    assert {v.decided_by for v in trace.verdicts} == {"same"}


async def test_it_ends_with_the_last_tag_or_with_the_model() -> None:
    tail = " And more. And more."
    trace = await search(ScriptedModel(remainder(WHOLE + tail)), Referee(len))
    assert trace.text == WHOLE
    trace = await search(ScriptedModel(remainder("No tags. Just an end")), Referee(len))
    assert texts(trace) == ["No tags.", " Just an end"]
    assert trace.answer == "No tags. Just an end"
    trace = await search(ScriptedModel(remainder("")), Referee(len))
    assert (trace.text, len(trace.chosen)) == ("", 1)


async def test_a_finished_candidate_is_not_extended() -> None:
    left = ["One. Two.", "End"]
    model = ScriptedModel(lambda prompt, rng: left.pop(0))
    trace = await search(model, Referee(lambda text: text == "End"))
    assert (trace.text, len(model.calls)) == ("End", 1)


async def test_the_limit_of_tokens_is_for_the_whole_answer() -> None:
    model = ScriptedModel(lambda prompt, rng: " a b c. d")
    trace = await search(model, Referee(len), max_tokens=10)
    assert [call.sampling.max_tokens for call in model.calls] == [10, 7, 4, 1]
    assert trace.text == " a b c." * 3 + " a"
    kept = [trace.candidates[i] for i in trace.chosen]
    assert sum(c.completion_tokens for c in kept) == 10
    assert kept[-1].finish == "length"


async def test_a_model_that_adds_nothing_cannot_go_on_for_ever() -> None:
    model = ScriptedModel(lambda prompt, rng: ". ")
    trace = await search(model, Referee(len), n=1, max_tokens=20)
    assert len(model.calls) == 20
    assert trace.text == "." * 20


async def test_nor_can_one_that_counts_nothing() -> None:
    class Uncounted(ScriptedModel):
        async def sample(
            self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
        ) -> list[Continuation]:
            made = await super().sample(prompt, n, sampling, on_text)
            return [replace(continuation, completion_tokens=0) for continuation in made]

    model = Uncounted(lambda prompt, rng: "So. ")
    await search(model, Referee(len), n=1, max_tokens=20)
    assert len(model.calls) == 20
