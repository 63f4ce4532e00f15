"""The page is one file, runs nothing, loads nothing, and escapes whatever a model wrote."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from made_traces import STAGES, WORDS, sentences, single, staged, tree

from llava_cot.core.trace import AnswerWarning, Candidate, ImageRecord, Score, Trace
from llava_cot.view.html import stylesheet, trace_fragment, trace_page

HOSTILE = "<script>alert(1)</script><img src=http://x.example onerror=alert(1)></style>{{ 7*7 }}"
VOID = {"meta", "img", "br", "link"}


class Elements(HTMLParser):
    """Every element with its attributes; fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def classes(self, name: str) -> int:
        return sum(name in (attrs.get("class") or "").split() for _, attrs in self.found)


def hostile() -> Trace:
    trace = staged(4, dict.fromkeys(STAGES, HOSTILE))
    image = ImageRecord(name=HOSTILE, sha256="0", width=1, height=1, data="https://x.example/pixel.png")
    question = trace.question.model_copy(update={"text": HOSTILE, "images": (image,), "options": (HOSTILE,)})
    verdicts = tuple(v.model_copy(update={"reply": HOSTILE}) for v in trace.verdicts)
    return trace.model_copy(update={"question": question, "verdicts": verdicts, "model": HOSTILE})


@pytest.mark.parametrize("trace", [staged(4), staged(16), sentences(40), single(), hostile(), tree()])
def test_the_page_loads_and_runs_nothing(trace: Trace) -> None:
    elements = Elements(trace_page(trace))
    assert {tag for tag, _ in elements.found}.isdisjoint({"script", "link", "iframe", "object", "a", "form"})
    for tag, attrs in elements.found:
        assert not any(name.startswith("on") or name == "style" for name in attrs)
        assert (attrs.get("src") or "data:").startswith("data:"), tag
    assert "url(" not in stylesheet()


def test_hostile_text_is_shown_as_text() -> None:
    page = trace_page(hostile())
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7*7 }}" in page
    assert "x.example/pixel.png" not in page
    assert page.count("<style>") == page.count("</style>") == 1


def test_the_policy_allows_the_style_and_pictures_alone() -> None:
    page = trace_page(single())
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert policy is not None and style is not None
    digest = b64encode(sha256(style[1].encode()).digest()).decode()
    assert (
        policy[1]
        .replace("&#39;", "'")
        .startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'")
    )


def test_every_candidate_and_duel_is_there_and_winners_are_marked() -> None:
    elements = Elements(trace_page(staged(16)))
    assert elements.classes("lc-card") == 64
    assert elements.classes("lc-kept") == 4
    assert elements.classes("lc-duel") == 60
    assert elements.classes("lc-columns") == 1
    opened = {attrs["id"] for _, attrs in elements.found if "lc-kept" in (attrs.get("class") or "")}
    assert opened == {"trace-0", "trace-16", "trace-32", "trace-48"}


def test_why_a_duel_was_won_is_there() -> None:
    page = trace_page(staged(4))
    assert "Since response 2 names every object, I choose response 2." in page
    assert "#9 looked at alone: incorrect." in page
    assert "The count is wrong. Verdict: incorrect." in page
    assert "the judge chose neither, the seed did" in page
    assert "0.75 to 0.25" in page


def test_many_rounds_become_rows() -> None:
    elements = Elements(trace_page(sentences(40)))
    assert elements.classes("lc-rows") == 1
    assert elements.classes("lc-round") == 40
    assert elements.classes("lc-card") == 120


def part(page: str, number: int) -> str:
    """One round of the search, of those shown in columns."""
    return page.split('<section class="lc-round">')[number + 1].split("</section>")[0]


def heads(html: str) -> list[str]:
    """What stands above the text of each card, in order."""
    found = re.findall(r'<span class="lc-head">(.*?)</span>\s*<span class="lc-text">', html, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", " ", head).split()) for head in found]


def test_a_tree_is_a_column_a_round_by_what_candidates_go_on_from() -> None:
    page = trace_page(tree())
    elements = Elements(page)
    assert (elements.classes("lc-columns"), elements.classes("lc-round")) == (1, 6)
    assert (elements.classes("lc-card"), elements.classes("lc-kept"), elements.classes("lc-followed")) == (
        12,
        4,
        4,
    )
    assert heads(part(page, 1)) == [
        "#2 continued score 0.100 5 tokens",
        "#3 continued score 0.200 5 tokens",
        "#1 score 0.000 5 tokens",
    ]
    assert re.findall("<h4>(.*?)</h4>", part(page, 2)) == ["after #3", "after #2"]
    assert "after #0" in part(page, 3) and "<h4>" not in part(page, 3)
    assert heads(part(page, 4)) == ["#8 kept score 2.000 5 tokens", "#9 score 0.500 5 tokens"]
    assert "budget 600 tokens" in page and "<dd>11</dd>" in page


def test_a_judge_s_words_about_a_score_are_there() -> None:
    page = trace_page(tree())
    assert page.count("<blockquote>Every step holds.</blockquote>") == 1
    assert "<b>#8</b> scored 2.000 by the judge (critic)" in part(page, 4)
    assert "<h4>Scores</h4>" in part(page, 4) and "<h4>Scores</h4>" not in part(page, 1)


def test_scores_of_earlier_candidates_are_a_round_too() -> None:
    final = tuple(Score(candidate=id, value=id, round=6, stage="answer", judge="critic") for id in (10, 11))
    page = trace_page(tree().model_copy(update={"scores": (*tree().scores, *final)}))
    assert Elements(page).classes("lc-round") == 7
    assert "2 scores" in part(page, 6) and part(page, 6).count("by the judge (critic)") == 2
    assert "score 3.000" in heads(part(page, 5))[0] and "score 10.000" in heads(part(page, 5))[0]


def test_a_long_tree_becomes_rows_and_still_says_after_what() -> None:
    made = tree()
    several = [
        c.model_copy(update={"id": 12 + i, "round": 6 + i, "parent": 10})
        for i, c in enumerate([made.candidates[11]] * 20)
    ]
    page = trace_page(made.model_copy(update={"candidates": (*made.candidates, *several)}))
    assert Elements(page).classes("lc-rows") == 1
    assert "#4 continued score -1.500 5 tokens after #3" in heads(part(page, 2))


def test_whole_answers_before_stages() -> None:
    """A search that goes by stages only where first answers disagree: nothing of the first round is kept."""
    chain = staged(2)
    first = [
        Candidate(id=i, parent=None, round=0, stage="answer", text=f"<CONCLUSION> {i} </CONCLUSION>")
        for i in (0, 1)
    ]
    moved = [
        c.model_copy(
            update={
                "id": c.id + 2,
                "round": c.round + 1,
                "parent": None if c.parent is None else c.parent + 2,
            }
        )
        for c in chain.candidates
    ]
    update = {"candidates": (*first, *moved), "chosen": tuple(id + 2 for id in chain.chosen), "verdicts": ()}
    page = trace_page(chain.model_copy(update=update))
    assert [re.search(r"</span> (\w+)", part(page, n)).group(1) for n in range(5)] == ["answer", *STAGES]  # type: ignore[union-attr]
    assert heads(part(page, 0)) == ["#0 answer 0 0 tokens", "#1 answer 1 0 tokens"]
    assert "after" not in part(page, 1) and "after #2" in part(page, 2)
    assert Elements(page).classes("lc-kept") == 4


def test_question_stages_answer_and_cost() -> None:
    page = trace_page(single())
    for text in [
        "Subtract all small metal spheres.",
        "data:image/png;base64,",
        "scene.png, 320 × 240",
        "4,321",
    ]:
        assert text in page
    for text in WORDS.values():
        assert text in page
    assert '<ol class="lc-options" type="A"><li>1</li><li>2</li></ol>' in page


def test_absent_stages_and_no_answer() -> None:
    stages = dict.fromkeys(STAGES)
    page = trace_page(single().model_copy(update={"stages": stages, "answer": None}))
    assert page.count("not given") == 4
    assert "none given" in page


def test_fragments_share_a_page_without_sharing_ids() -> None:
    both = trace_fragment(staged(2), "left") + trace_fragment(staged(2), "right")
    ids = [attrs["id"] for _, attrs in Elements(both).found if "id" in attrs]
    assert len(ids) == len(set(ids)) == 16
    assert all(rule.lstrip().startswith((".lc-", "@media", "}", "--", "color", "box-sizing"))
               for rule in stylesheet().splitlines() if rule.strip())  # fmt: skip


def test_warnings_and_an_answer_without_stages_are_shown() -> None:
    text = f"plain {HOSTILE}"
    trace = single().model_copy(
        update={
            "stages": dict.fromkeys(STAGES),
            "answer": text,
            "warnings": (AnswerWarning(kind="no-stages", text=HOSTILE),),
        }
    )
    page = trace_fragment(trace, with_question=False)
    elements = Elements(page)
    assert (elements.classes("lc-warnings"), elements.classes("lc-stage")) == (1, 1)
    assert "not given" not in page and "plain &lt;script&gt;" in page
    assert "lc-warnings" not in trace_fragment(single()) and "Answer by stage" in trace_fragment(single())
