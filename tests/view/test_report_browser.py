"""The report in a real browser: Debian's chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_results import HOSTILE, MadeResults, made
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from llava_cot.evaluation.report.arms import arms_of
from llava_cot.evaluation.report.outcome_tables import pair_counts
from llava_cot.view.report_page import write_report

CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def results() -> MadeResults:
    return made(("scenes", "easy"), count=25, methods=("single", "stage-beam-2"), seeds=(0,))


@pytest.fixture(scope="module")
def browser(
    results: MadeResults,
) -> Iterator[Browser]:  # which are made first: playwright has a loop of its own
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which nothing may go wrong and nothing may be asked for but the report's own file."""
    told: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: told.append(request.url) if _fetched(request.url) else None)
        yield page
    assert told == []


def _fetched(url: str) -> bool:
    return not url.startswith("data:image/") and not url.endswith("/report.html")


def visit(page: Page, file: Path) -> None:
    page.goto(file.as_uri())
    expect(page.locator(".rp-entry").first).to_be_visible(timeout=PATIENCE)


def field(page: Page, name: str) -> Locator:
    return page.locator(".rp-filter").get_by_label(name)


def shown(page: Page) -> list[str]:
    return page.locator(".rp-entry .rp-top b").all_inner_texts()


def test_questions_are_filtered_and_their_traces_opened(
    page: Page, results: MadeResults, tmp_path: Path
) -> None:
    visit(page, write_report(results, tmp_path / "out"))
    expect(page.locator("#counts")).to_contain_text("50 of 50 questions")
    assert len(shown(page)) == 20
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#page")).to_have_text("41 to 50 of 50")

    field(page, "Benchmark").select_option("easy")
    single, beam = (arm for arm in arms_of(results) if arm.benchmark == "easy")
    pairs = pair_counts(single, beam)
    assert sum(pairs) == 25
    expect(page.locator("#counts")).to_have_text(
        f"25 of 50 questions. Right under both: {pairs.both}, only stage-beam-2: {pairs.second}, "
        f"only single: {pairs.first}, neither: {pairs.neither}."
    )
    field(page, "Outcome").select_option("gained")
    first, second = (
        {r.item: r.score.value for r in results.results(s)} for s in results.runs if s.benchmark == "easy"
    )
    gained = [item for item in first if second[item] and not first[item]]
    assert shown(page) == gained != []
    expect(page.locator("#counts")).to_contain_text(f"{len(gained)} of 50 questions")

    field(page, "Outcome").select_option("failed")
    assert shown(page) == ["easy/24"]
    field(page, "Outcome").select_option("")
    field(page, "Skill").select_option("counting")
    assert shown(page) == [f"easy/{number}" for number in range(0, 25, 3)]
    field(page, "Skill").select_option("")
    field(page, "Text").fill("PICTURE 7 ")
    assert shown(page) == ["easy/7"]

    page.locator(".rp-entry > summary").click()
    assert page.locator(".rp-pictures img").evaluate("image => image.naturalWidth") == 192
    expect(page.locator(".rp-option")).to_have_text("four")
    page.get_by_role("button", name="stage-beam-2").click()
    trace = page.locator(".rp-trace .lc-trace")
    expect(trace.locator(".lc-round")).to_have_count(4)
    expect(trace.locator(".lc-duel")).to_have_count(4)
    expect(trace.get_by_text("objects <b>in colours</b>").first).to_be_visible()
    page.get_by_role("button", name="single").click()
    expect(trace.locator(".lc-round")).to_have_count(1)
    page.get_by_role("button", name="single").click()
    expect(trace).to_have_count(0)


def test_hostile_text_does_nothing(page: Page, results: MadeResults, tmp_path: Path) -> None:
    visit(page, write_report(results, tmp_path / "out"))
    field(page, "Text").fill("alert(1)")
    assert shown(page) == ["scenes/0", "easy/0"]
    page.locator(".rp-entry > summary").first.click()
    expect(page.locator(".rp-words").first).to_contain_text(HOSTILE)
    page.get_by_role("button", name="single").first.click()
    expect(page.locator(".rp-trace .lc-trace")).to_be_visible()
    assert page.locator("script[type='']").count() == 0


def test_the_page_says_what_was_left_out(page: Page, results: MadeResults, tmp_path: Path) -> None:
    visit(page, write_report(results, tmp_path / "out", questions=3))
    expect(page.get_by_text("Traces and pictures of 3 of 50 questions are in this page")).to_be_visible()
    expect(page.locator("#counts")).to_contain_text("50 of 50 questions")
    field(page, "Benchmark").select_option("easy")
    for _ in range(2):
        for entry in page.locator(".rp-entry > summary").all():
            entry.click()
        if page.get_by_role("button", name="Next").is_enabled():
            with_traces = page.locator(".rp-pictures").count()
            page.get_by_role("button", name="Next").click()
    assert with_traces + page.locator(".rp-pictures").count() in (1, 2)  # of the two benchmarks in turn
    expect(page.get_by_text("left out of this page").first).to_be_visible()


def test_a_phone_scrolls_tables_and_not_the_page(
    browser: Browser, results: MadeResults, tmp_path: Path
) -> None:
    file = write_report(results, tmp_path / "out", paper=True)
    with browser.new_context(viewport={"width": 360, "height": 700}) as context:
        page = context.new_page()
        page.goto(file.as_uri())
        expect(page.locator(".rp-entry").first).to_be_visible(timeout=PATIENCE)
        page.locator(".rp-entry > summary").nth(1).click()
        page.get_by_role("button", name="stage-beam-2").click()
        expect(page.locator(".rp-trace .lc-trace")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
