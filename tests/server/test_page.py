"""The web page in a real browser: Debian's chromium, headless."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio import processing_utils
from playing import WORDS
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import PATIENCE, Patient, Served, get, noisy, served, until

from llava_cot.core.trace import Trace
from llava_cot.models.scripted import ScriptedModel
from llava_cot.server.service import ServerSettings

CHROMIUM = shutil.which("chromium")
SCENE = Path(__file__).parents[2] / "examples" / "scene.png"
FOCUSED = "(e => `${e.getAttribute('aria-label')} ${e.innerText}`)(document.activeElement)"
HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} {{alert}} <script>alert(3)</script>"

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ScriptedModel(noisy)) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE * 1000)
        yield context.new_page()


def visit(page: Page, server: Served) -> None:
    page.goto(server.root)
    expect(page.get_by_label("Question")).to_be_visible()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=option, exact=True).click()


def answer(page: Page) -> Any:
    return page.locator("#answer")


def test_clicking_through_a_question(page: Page, server: Served) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    visit(page, server)
    page.set_input_files("input[type=file]", SCENE)
    expect(page.locator("img[src*=scene]").first).to_be_visible()
    page.get_by_label("Question").fill("How many?")
    choose(page, "Judge", "likelihood")
    page.get_by_role("button", name="Ask").click()

    stages = answer(page).locator(".lc-stage h3")
    expect(answer(page).get_by_text("Link to this answer")).to_be_visible()
    assert [name.lower() for name in stages.all_inner_texts()] == list(WORDS)
    assert answer(page).locator(".lc-round").count() == 4
    assert answer(page).locator(".lc-card").count() == 4 * 4
    assert answer(page).locator(".lc-duel").count() == 4 * 3
    expect(answer(page).get_by_text("both texts are the same").first).to_be_visible()
    assert all(url.startswith((server.root, "data:", "blob:")) for url in loaded)

    with page.expect_download() as download:
        page.get_by_text("Download the trace").click()
    trace = Trace.load(download.value.path())
    assert (trace.method, trace.n, trace.judge) == ("stage-beam", 4, "likelihood")
    assert [image.width for image in trace.question.images] == [192]
    with page.expect_popup() as opened:
        page.get_by_text("Link to this answer").click()
    expect(opened.value.locator("h1")).to_have_text("How many?")
    expect(opened.value.locator(".lc-answer strong")).to_have_text(str(trace.answer))
    assert opened.value.locator("img").evaluate("img => img.naturalWidth") == 192


def test_an_example_and_the_keyboard_are_enough(page: Page, server: Served) -> None:
    visit(page, server)
    page.get_by_text("Are there more purple objects").click()
    question = page.get_by_label("Question")
    expect(question).to_have_value("Are there more purple objects than large cylinders?")
    expect(page.locator("img[src*=compare]").first).to_be_visible()
    question.focus()
    page.keyboard.press("Enter")
    expect(answer(page).get_by_text("Link to this answer")).to_be_visible()
    for name in ("Method", "Candidates", "Judge", "More", "Ask", "Stop"):
        reached = False
        for _ in range(30):
            page.keyboard.press("Tab")
            reached = name in page.evaluate(FOCUSED)
            if reached:
                break
        assert reached, name


def test_single_hides_the_judge(page: Page, server: Served) -> None:
    visit(page, server)
    choose(page, "Method", "single")
    expect(page.get_by_label("Judge")).to_be_hidden()
    page.get_by_label("Question").fill("How many?")
    page.get_by_role("button", name="Ask").click()
    expect(answer(page).get_by_text("Link to this answer")).to_be_visible()
    assert answer(page).locator(".lc-card").count() == 1


def test_errors_are_shown_as_a_sentence(page: Page, server: Served, tmp_path: Path) -> None:
    visit(page, server)
    page.get_by_role("button", name="Ask").click()
    expect(answer(page)).to_have_text("The question is empty; write what you want to know.")
    page.get_by_label("Question").fill("How many?")
    fake = tmp_path / "picture.png"
    fake.write_text("<html>no picture</html>")
    page.set_input_files("input[type=file]", fake)
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("the picture is damaged, or the file is not a picture")).to_be_visible()


def test_text_of_a_model_is_escaped(page: Page) -> None:
    alerts: list[str] = []
    page.on("dialog", lambda dialog: alerts.append(dialog.message) or dialog.dismiss())
    words = "".join(f"<{stage.upper()}>{HOSTILE}</{stage.upper()}>" for stage in WORDS)
    with served(ScriptedModel(lambda prompt, rng: words)) as server:
        visit(page, server)
        choose(page, "Method", "single")
        page.get_by_label("Question").fill(HOSTILE)
        page.get_by_role("button", name="Ask").click()
        expect(answer(page).get_by_text("Link to this answer")).to_be_visible()
        assert answer(page).locator(".lc-stage p").all_inner_texts() == [HOSTILE] * 4
        assert answer(page).locator("img, script").count() == 0
    assert alerts == []


def test_stopping_and_leaving_cancel_the_work(browser: Browser, page: Page) -> None:
    model = Patient()
    with served(model) as server:
        visit(page, server)
        page.get_by_label("Question").fill("How many?")
        page.get_by_role("button", name="Ask").click()
        until(lambda: model.waiting > 0)
        page.get_by_role("button", name="Stop").click()
        expect(answer(page)).to_contain_text("Stopped.")
        until(lambda: model.waiting == 0)
        page.get_by_role("button", name="Ask").click()
        expect(answer(page)).to_contain_text("Searching")
        page.close()
        until(lambda: model.waiting == 0)
        assert server.counted('llava_cot_questions_total{outcome="gone"}') == 2


def test_it_is_readable_on_a_phone(browser: Browser, server: Served) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as phone:
        phone.set_default_timeout(PATIENCE * 1000)
        page = phone.new_page()
        visit(page, server)
        page.get_by_label("Question").fill("How many?")
        page.get_by_role("button", name="Ask").tap()
        expect(answer(page).get_by_text("Link to this answer")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert answer(page).locator(".lc-stage p").first.bounding_box()["width"] > 250


def test_with_a_key_the_page_needs_a_password(browser: Browser) -> None:
    with served(ScriptedModel(noisy), ServerSettings(api_key="s3crét")) as server:
        for path in ("/", "/config", "/gradio_api/queue/data", "/traces.html"):
            refused = get(server.root + path)
            assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
        for wrong in (("anyone", "wrong"), ("s3crét", "")):
            assert get(server.root, auth=wrong).status_code == 401
        for wrong in ("Basic", "Basic é", "Basic " + "A" * 99, "Bearer s3crét"):
            assert get(server.root, headers={"Authorization": wrong.encode()}).status_code == 401
        with browser.new_context(http_credentials={"username": "anyone", "password": "s3crét"}) as context:
            page = context.new_page()
            visit(page, server)
            page.get_by_label("Question").fill("How many?")
            page.get_by_role("button", name="Ask").click()
            page.get_by_text("Link to this answer").wait_for(timeout=PATIENCE * 1000)


def test_no_file_is_read_or_fetched_by_its_name(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    async def fetch(url: str, *args: Any) -> str:
        fetched.append(url)
        return str(SCENE)

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    for path in ("https://example.org/a.png", "http://127.0.0.1/a.png", "/etc/passwd", __file__):
        assert get(f"{server.root}/gradio_api/file={path}").status_code in (302, 403, 404)
        assert ask_directly(server, path)["success"] is False
    assert fetched == []


def ask_directly(server: Served, path: str) -> dict[str, Any]:
    """Send the page a request with a picture at this path; returns its last event."""
    config = get(f"{server.root}/config").json()
    [index] = [d["id"] for d in config["dependencies"] if len(d["inputs"]) == 8]
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    data = [picture, "How many?", "single", 1, "self", None, 0.6, None]
    join = {"data": data, "fn_index": index, "session_hash": "by-hand"}
    httpx.post(f"{server.root}/gradio_api/queue/join", json=join).raise_for_status()
    with httpx.stream(
        "GET", f"{server.root}/gradio_api/queue/data?session_hash=by-hand", timeout=PATIENCE
    ) as events:
        for line in events.iter_lines():
            event = json.loads(line.removeprefix("data: ")) if line else {}
            if event.get("msg") == "process_completed":
                return event
    raise AssertionError("the page sent no last event")


def test_a_missing_trace_is_404(server: Served) -> None:
    for address in ("/traces/nothing", "/traces/nothing.json"):
        reply = get(server.root + address)
        assert reply.status_code == 404 and "no such trace" in reply.json()["error"]["message"]
