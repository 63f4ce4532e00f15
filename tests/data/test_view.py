"""The page to look through data: what it shows, what it escapes, and that it loads nothing."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from html_elements import HOSTILE, Elements
from playwright.sync_api import sync_playwright
from scene_sets import Lines, write_lines, write_set

from llava_cot.data.checks.check import choose_lines
from llava_cot.data.reading import random_items
from llava_cot.view.records_page import records_page

CHROMIUM = shutil.which("chromium")


def page_of(folder: Path, count: int = 200) -> str:
    return records_page(choose_lines(folder, count))


def hostile(lines: Lines) -> None:
    line = lines[1]
    line |= {"id": HOSTILE, "source": HOSTILE, "licence": HOSTILE, "extra": {HOSTILE: HOSTILE}}
    line["questions"] = [
        {"question": HOSTILE, "answer": HOSTILE, "options": [HOSTILE], "hints": HOSTILE, "annotated": True}
    ]
    line["conversations"][1]["value"] = f"<CONCLUSION>{HOSTILE}</CONCLUSION> {HOSTILE}"
    line["image"] = "x'onerror='alert(1)'.png"


def test_hostile_text_is_shown_as_text_and_runs_nothing(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 3, hostile)
    write_lines(
        folder / "rejects.jsonl", [{"id": HOSTILE, "turn": HOSTILE, "reason": HOSTILE, HOSTILE: HOSTILE}]
    )
    page = page_of(folder)
    page.encode()
    elements = Elements(page)
    tags = Counter(tag for tag, _ in elements.found)
    assert tags["script"] == tags["style"] == 1
    assert tags["img"] == 2
    for _, attrs in elements.found:
        assert not any(name.startswith("on") or name == "style" for name in attrs)
        assert (attrs.get("src") or "data:image/jpeg").startswith("data:image/jpeg")
        assert (attrs.get("href") or "#").startswith("#")
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7*7 }}" in page
    assert "\u202e" not in page and "\0" not in page


def test_the_policy_allows_the_style_and_the_filter_alone(tmp_path: Path) -> None:
    page = page_of(write_set(tmp_path / "set", 2))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'")
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert text is not None
        digest = b64encode(sha256(text[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in allowed
    assert allowed.startswith("default-src 'none'; img-src data:;")


def test_records_stages_findings_and_rejects_are_there(tmp_path: Path) -> None:
    def spoil(lines: Lines) -> None:
        lines[1]["conversations"][1]["value"] = "The standard answer is 3."
        lines[2]["image"] = "images/nowhere.png"
        lines.insert(3, "{")  # type: ignore[arg-type]

    folder = write_set(tmp_path / "set", 5, spoil)
    write_lines(
        folder / "rejects.jsonl", [{"id": "train-0-9", "turn": 0, "reason": "it refused", "tries": 2}, "["]
    )
    page = page_of(folder)
    elements = Elements(page)
    assert elements.count("lc-record") == 5
    assert elements.count("lc-stage") == 4 * 4
    assert elements.count("lc-final") == 4
    assert elements.count("lc-missing") == 1
    assert elements.count("lc-reject") == 2
    found = {attrs["id"]: attrs["data-found"] for tag, attrs in elements.found if tag == "article"}
    assert found == {"line-1": "", "line-2": "stages leak", "line-3": "picture", "line-5": "", "line-6": ""}
    for words in (
        "images/nowhere.png: no such file",
        "line 4</b> it is no JSON",
        "it refused",
        "Apache-2.0",
    ):
        assert words in page
    assert "line 2 is no JSON object" in page


def test_pictures_and_texts_are_bounded(tmp_path: Path) -> None:
    from PIL import Image

    def long(lines: Lines) -> None:
        lines[0]["questions"][0]["question"] = "word " * 10_000

    folder = write_set(tmp_path / "set", 1, long)
    Image.effect_noise((3000, 2000), 120).save(folder / "images/train-0-0.png")
    page = page_of(folder)
    assert "3000&nbsp;×&nbsp;2000" in page
    assert "40,000 more characters" in page
    assert len(page) < 200_000


def test_what_is_chosen_is_by_the_seed_and_can_be_findings_alone(tmp_path: Path) -> None:
    def spoil(lines: Lines) -> None:
        for number in (3, 11, 17):
            lines[number]["conversations"][1]["value"] = "3"

    folder = write_set(tmp_path / "set", 20, spoil)

    def numbers(count: int, seed: int, only_findings: bool = False) -> list[int]:
        view = choose_lines(folder, count, seed, only_findings=only_findings)
        assert view.report.records == 20
        return [examined.line.number for examined in view.chosen]

    assert numbers(5, 1) == sorted(numbers(5, 1))
    assert numbers(5, 1) != numbers(5, 2)
    assert numbers(50, 1) == list(range(1, 21))
    assert numbers(50, 1, only_findings=True) == [4, 12, 18]


def test_every_thing_is_as_likely_to_be_drawn() -> None:
    drawn = Counter(thing for seed in range(6000) for thing in random_items(range(10), 3, seed)[0])
    assert all(abs(count - 1800) < 150 for count in drawn.values())
    assert random_items(iter(()), 3, 0) == ([], 0)


@pytest.mark.slow
def test_the_filter_in_a_browser(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (Debian: apt install chromium)")

    def spoil(lines: Lines) -> None:
        lines[1]["conversations"][1]["value"] = "The standard answer is 3."
        lines[2]["source"] = "chartqa <b>"
        hostile(lines[2:])

    folder = write_set(tmp_path / "set", 6, spoil)
    (tmp_path / "page.html").write_text(page_of(folder))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        events: list[str] = []
        loaded: list[str] = []
        page.on("console", lambda message: events.append(message.text))
        page.on("pageerror", lambda error: events.append(str(error)))
        page.on("dialog", lambda dialog: events.append(dialog.message))
        page.on(
            "request",
            lambda request: events.extend([] if request.url[:5] in ("file:", "data:") else ["loaded"]),
        )
        page.goto((tmp_path / "page.html").as_uri())
        shown = page.locator("#shown")
        assert shown.inner_text() == "6 of 6"
        page.select_option("#kind", "leak")
        assert shown.inner_text() == "1 of 6"
        assert page.locator(".lc-record:visible").count() == 1
        page.select_option("#kind", "none")
        assert shown.inner_text() == "4 of 6"
        page.select_option("#kind", "")
        page.select_option("#source", "scenes")
        assert shown.inner_text() == "4 of 6"
        page.fill("#text", "train-0-4")
        assert shown.inner_text() == "1 of 6"
        page.fill("#text", "")
        page.select_option("#source", "chartqa <b>")
        assert shown.inner_text() == "1 of 6"
        assert events == []
        assert all(url.startswith(("file:", "data:")) for url in loaded)
        browser.close()


def test_json_of_the_report_names_what_the_page_shows(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 3, lambda lines: lines[0].update(image="../a.png"))
    view = choose_lines(folder, 10)
    assert json.loads(json.dumps(view.report.to_json()))["counts"] == {"picture: outside": 1}
    assert "picture: outside" in records_page(view)
