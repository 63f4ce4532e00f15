"""The page is one file, runs nothing, loads nothing, and escapes whatever a model wrote."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from made_traces import STAGES, WORDS, sentences, single, staged

from llava_cot.show.page import stylesheet, trace_fragment, trace_page
from llava_cot.trace import ImageRecord, Trace

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


@pytest.mark.parametrize("trace", [staged(4), staged(16), sentences(40), single(), hostile()])
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
