from made_traces import sentences, single, staged

from llava_cot.core.trace import Candidate, StageTags, Usage, Verdict
from llava_cot.core.wording import one_line, printable
from llava_cot.view.describe import (
    candidate_facts,
    describe_request,
    describe_round,
    describe_usage,
    search_rounds,
    verdict_reason,
)


def test_rounds_keep_the_order_of_what_happened() -> None:
    parts = search_rounds(staged(3))
    assert [part.stage for part in parts] == ["summary", "caption", "reasoning", "conclusion"]
    assert [c.id for c in parts[1].candidates] == [3, 4, 5]
    assert [v.winner for v in parts[1].verdicts] == [3, 3]
    assert parts[0].parent is None
    assert parts[1].parent == 0
    assert describe_round(parts[1]) == "3 candidates, 2 duels, after #0"
    assert len(search_rounds(sentences(40))) == 40


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert printable("a\x1b[31m\x07b\tc\r\nd\x9b\u202e") == "a�[31m�b\tc\nd��"
    assert one_line("  a\n\n b\x1bc ") == "a b�c"


def test_every_way_to_settle_a_duel_is_told() -> None:
    def told(by: str, scores: tuple[float, float] | None = None) -> str:
        verdict = Verdict(
            a=4, b=7, winner=7, round=0, stage="summary", judge="self", decided_by=by, scores=scores
        )
        return verdict_reason(verdict)

    assert told("choice") == "the judge (self) chose it"
    assert told("choice", (0.2, 0.8)) == "the judge (self) chose it, 0.80 to 0.20"
    assert told("check") == "#4 was found incorrect"
    assert told("same") == "both texts are the same"
    assert told("seed") == "the judge chose neither, the seed did"


def test_the_answer_is_read_from_the_stage_that_holds_it() -> None:
    def told(text: str, final: str | None) -> str:
        tags = tuple(StageTags(name=name, open=f"<{name}>", close=f"</{name}>") for name in ("answer", "why"))
        trace = single().model_copy(update={"format": tags, "final": final})
        return candidate_facts(Candidate(id=0, parent=None, round=0, stage="answer", text=text), trace)[0]

    whole = "<answer> 2 </answer> <why> two cubes </why>"
    assert told(whole, "answer") == "answer 2"
    assert told(whole, "why") == told(whole, None) == "answer two cubes"
    # Here "answer" is a stage that was searched, and does not hold the answer.
    assert told("<answer> 2 </answer>", "why") == "0 tokens"


def test_facts_how_and_cost() -> None:
    trace = staged(4)
    assert candidate_facts(trace.candidates[0], trace) == ["20 tokens", "log-prob. -0.17 a token"]
    assert candidate_facts(trace.candidates[3], trace)[-1] == "ran out of tokens"
    assert candidate_facts(single().candidates[0], trace) == ["answer 2", "90 tokens", "the model ended here"]
    assert (
        describe_request(trace)
        == "model mini · stage-beam -n 4 · judge self · temperature 0.6, top-p 0.9 · seed 0"
    )
    assert describe_usage(trace.usage) == "31 model calls · 4,321 tokens read · 987 written · 2.3 s"
    assert describe_usage(Usage(model_calls=1, prompt_tokens=1)).startswith("1 model call · 1 token read")
