"""The web page: its files, and its use in a real browser (Debian's chromium, headless)."""

from __future__ import annotations

import base64
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playing import WORDS
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import PATIENCE, Patient, Served, get, noisy, running, served, until

from llava_cot.core.images import ImageLimits
from llava_cot.core.trace import Trace
from llava_cot.models.base import Continuation, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.server.page import page_routes
from llava_cot.server.schemas import MAX_BUDGET
from llava_cot.server.service import ServerSettings

CHROMIUM = shutil.which("chromium")
SCENE = Path(__file__).parents[2] / "examples" / "scene.png"
HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} {{alert}} <script>alert(3)</script>"
FOCUSED = "(e => `${(e.labels ?? [])[0]?.innerText} ${e.innerText}`)(document.activeElement)"
# Sends a file to the page as the clipboard or the mouse does.
SEND = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    const file = new File([bytes], "sent.png", {type: "image/png"});
    const transfer = new DataTransfer();
    transfer.items.add(file);
    const event = name === "paste"
        ? new ClipboardEvent(name, {clipboardData: transfer, bubbles: true})
        : new DragEvent(name, {dataTransfer: transfer, bubbles: true});
    document.body.dispatchEvent(event);
}"""
COPY = """async (url) => {
    const picture = await (await fetch(url)).blob();
    await navigator.clipboard.write([new ClipboardItem({"image/png": picture})]);
}"""

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
    """A page whose script must not fail, and that must not break its own policy."""
    faults: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Policy" in said.text else None)
        page.on("dialog", lambda dialog: faults.append(dialog.message) or dialog.dismiss())
        yield page
    assert faults == []


def visit(page: Page, server: Served) -> None:
    page.goto(server.root)
    expect(page.get_by_label("Question")).to_be_enabled()


def ask(page: Page) -> None:
    page.get_by_role("button", name="Ask").click()


def answer(page: Page) -> Any:
    return page.locator("#answer")


def expect_answer(page: Page) -> None:
    expect(answer(page).get_by_text("Link to this answer")).to_be_visible()


def downloaded(page: Page) -> Trace:
    with page.expect_download() as download:
        page.get_by_text("Download the trace").click()
    return Trace.load(download.value.path())


# The files


def test_every_file_has_the_policy_and_loads_nothing_from_elsewhere(server: Served) -> None:
    addresses = {route.path for route in page_routes()}
    assert {"/", "/static/page.js", "/static/page.css", "/static/trace.css"} < addresses
    for address in addresses:
        reply = get(server.root + address)
        assert reply.status_code == 200 and reply.headers["x-content-type-options"] == "nosniff"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        if not address.endswith(".png"):
            text = reply.text.replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|@import|\bon[a-z]+=|\bstyle=", text), address


def test_the_controls_have_the_limits_of_the_server(server: Served) -> None:
    html = get(server.root).text
    assert f'data-max-bytes="{ImageLimits().max_bytes}"' in html
    assert f'id="budget" type="number" min="1" max="{MAX_BUDGET}"' in html
    assert f'step="0.05" value="{Sampling().temperature}"' in html


def test_a_missing_trace_is_404(server: Served) -> None:
    for address in ("/traces/nothing", "/traces/nothing.json"):
        reply = get(server.root + address)
        assert reply.status_code == 404 and "no such trace" in reply.json()["error"]["message"]


# In the browser


def test_clicking_through_a_question(page: Page, server: Served) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    visit(page, server)
    expect(page.locator("header")).to_contain_text("Ask scripted about a picture.")
    page.get_by_label("Picture").set_input_files(SCENE)
    expect(page.get_by_alt_text("scene.png")).to_be_visible()
    page.get_by_label("Question").fill("How many?")
    page.get_by_label("Judge").select_option("likelihood")
    ask(page)

    expect_answer(page)
    stages = answer(page).locator(".lc-stage h3")
    assert [name.lower() for name in stages.all_inner_texts()] == list(WORDS)
    assert answer(page).locator(".lc-round").count() == 4
    assert answer(page).locator(".lc-card").count() == 4 * 4
    assert answer(page).locator(".lc-duel").count() == 4 * 3
    expect(answer(page).get_by_text("both texts are the same").first).to_be_visible()
    assert all(url.startswith((server.root, "data:", "blob:")) for url in loaded)

    trace = downloaded(page)
    assert (trace.method, trace.n, trace.judge) == ("stage-beam", 4, "likelihood")
    assert [image.width for image in trace.question.images] == [192]
    with page.expect_popup() as opened:
        page.get_by_text("Link to this answer").click()
    expect(opened.value.locator("h1")).to_have_text("How many?")
    expect(opened.value.locator(".lc-answer strong")).to_have_text(str(trace.answer))
    assert opened.value.locator("img").evaluate("img => img.naturalWidth") == 192


def test_all_choices_reach_the_search(page: Page, server: Served) -> None:
    visit(page, server)
    page.get_by_label("Method").select_option("majority")
    expect(page.get_by_label("Judge")).to_be_hidden()
    page.get_by_label("Candidates").fill("3")
    page.get_by_label("Token budget").fill("5000")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Temperature").fill("1.25")
    page.get_by_label("Seed").fill("-7")
    page.get_by_label("Question").fill("How many?")
    ask(page)
    expect_answer(page)
    trace = downloaded(page)
    assert (trace.method, trace.n, trace.judge, trace.budget) == ("majority", 3, None, 5000)
    assert (trace.temperature, trace.seed, trace.question.images) == (1.25, -7, ())


def test_an_example_and_the_keyboard_are_enough(page: Page, server: Served) -> None:
    visit(page, server)
    page.get_by_text("Are there more purple objects").click()
    question = page.get_by_label("Question")
    expect(question).to_have_value("Are there more purple objects than large cylinders?")
    expect(page.get_by_alt_text("compare.png")).to_be_visible()
    question.focus()
    page.keyboard.press("Shift+Enter")
    expect(question).to_have_value(re.compile(r"cylinders\?\n$"))
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    expect_answer(page)
    assert len(downloaded(page).question.images) == 1
    page.get_by_role("button", name="Remove", exact=True).focus()
    for name in ("Question", "Method", "Candidates", "Judge", "More", "Ask"):
        reached = False
        for _ in range(10):
            page.keyboard.press("Tab")
            reached = name in page.evaluate(FOCUSED)
            if reached:
                break
        assert reached, name


@pytest.mark.parametrize("name", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(page: Page, server: Served, name: str) -> None:
    visit(page, server)
    page.evaluate(SEND, [name, base64.b64encode(SCENE.read_bytes()).decode()])
    expect(page.get_by_alt_text("sent.png")).to_be_visible()
    page.get_by_label("Question").fill("How many?")
    ask(page)
    expect_answer(page)
    assert [image.width for image in downloaded(page).question.images] == [192]


def test_a_picture_is_taken_from_the_clipboard_and_removed(page: Page, server: Served) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit(page, server)
    page.get_by_role("button", name="Paste").click()
    expect(answer(page)).to_have_text("The clipboard holds no picture; copy one first.")
    page.evaluate(COPY, f"{server.root}/static/examples/count.png")
    page.get_by_role("button", name="Paste").click()
    expect(page.get_by_alt_text("clipboard")).to_be_visible()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator("#preview")).to_be_hidden()
    page.get_by_label("Question").fill("How many?")
    ask(page)
    expect_answer(page)
    assert downloaded(page).question.images == ()


def test_single_hides_the_judge(page: Page, server: Served) -> None:
    visit(page, server)
    page.get_by_label("Method").select_option("single")
    for label in ("Judge", "Candidates", "Token budget"):
        expect(page.get_by_label(label)).to_be_hidden()
    page.get_by_label("Question").fill("How many?")
    ask(page)
    expect_answer(page)
    assert answer(page).locator(".lc-card").count() == 1


def test_errors_are_shown_as_a_sentence(page: Page, server: Served, tmp_path: Path) -> None:
    visit(page, server)
    ask(page)
    expect(answer(page)).to_have_text("The question is empty; write what you want to know.")
    page.get_by_label("Question").fill("How many?")
    fake = tmp_path / "picture.png"
    fake.write_text("<html>no picture</html>")
    page.get_by_label("Picture").set_input_files(fake)
    ask(page)
    expect(answer(page).get_by_role("alert")).to_contain_text("it is a web page; give the address")
    with fake.open("wb") as file:
        file.truncate(ImageLimits().max_bytes + 1)
    page.get_by_label("Picture").set_input_files(fake)
    expect(answer(page).get_by_role("alert")).to_contain_text("more than the 20 MB allowed")


def test_a_server_that_is_gone_is_reported(page: Page) -> None:
    with served(ScriptedModel(noisy)) as server:
        visit(page, server)
    page.get_by_label("Question").fill("How many?")
    ask(page)
    expect(answer(page).get_by_role("alert")).to_have_text("The server cannot be reached; try again later.")
    page.get_by_text("Are there more purple objects").click()
    expect(answer(page).get_by_role("alert")).to_be_visible()


def test_text_of_a_model_is_escaped(page: Page) -> None:
    words = "".join(f"<{stage.upper()}>{HOSTILE}</{stage.upper()}>" for stage in WORDS)
    with served(ScriptedModel(lambda prompt, rng: words)) as server:
        visit(page, server)
        page.get_by_label("Method").select_option("single")
        page.get_by_label("Question").fill(HOSTILE)
        ask(page)
        expect_answer(page)
        assert answer(page).locator(".lc-stage p").all_inner_texts() == [HOSTILE] * 4
        assert answer(page).locator("img, script").count() == 0


def test_an_answer_without_stages_is_shown_with_its_warning(page: Page) -> None:
    with served(ScriptedModel(lambda prompt, rng: "It is <b>a cat</b>.")) as server:
        visit(page, server)
        page.get_by_label("Question").fill("What is it?")
        ask(page)
        expect_answer(page)
        assert answer(page).locator(".lc-stage p").all_inner_texts() == ["It is <b>a cat</b>."]
        expect(page.get_by_role("note", name="Warnings")).to_contain_text(
            "none of the stages summary, caption"
        )
        assert [warning.kind for warning in downloaded(page).warnings] == ["no-stages"]


def test_options_without_an_effect_are_not_offered(page: Page) -> None:
    class Fixed(ScriptedModel):
        ignored_sampling = ("temperature", "seed")

    model = Fixed(noisy)
    with served(model) as server:
        visit(page, server)
        page.get_by_text("More", exact=True).click()
        assert page.get_by_label("Temperature").is_hidden() and page.get_by_label("Seed").is_hidden()
        page.get_by_label("Question").fill("How many?")
        ask(page)
        expect_answer(page)
        assert model.calls[0].sampling.temperature == Sampling().temperature


def test_stopping_and_leaving_cancel_the_work(page: Page) -> None:
    model = Patient()
    with served(model) as server:
        visit(page, server)
        page.get_by_label("Question").fill("How many?")
        ask(page)
        expect(answer(page)).to_contain_text("Searching: summary...")
        until(lambda: model.waiting > 0)
        page.get_by_role("button", name="Stop").press("Enter")
        expect(answer(page)).to_contain_text("Stopped.")
        until(lambda: model.waiting == 0)
        ask(page)
        expect(answer(page)).to_contain_text("Searching")
        page.close()
        until(lambda: model.waiting == 0)
        until(lambda: server.counted('llava_cot_questions_total{outcome="gone"}') == 2)


def test_the_page_waits_in_the_queue_of_all_clients(page: Page) -> None:
    model = Patient()
    body = {"model": "scripted:single", "messages": [{"role": "user", "content": "How many?"}]}
    with served(model, ServerSettings(max_running=1, max_waiting=2)) as server:
        visit(page, server)
        page.get_by_label("Question").fill("How many?")
        with server.left(body):
            until(lambda: model.waiting == 1)
            ask(page)
            expect(answer(page)).to_contain_text("Waiting for the server...")
            until(lambda: server.counted("llava_cot_waiting") == 1)
            ask(page)  # takes the place of the first
            until(lambda: server.counted('llava_cot_questions_total{outcome="gone"}') == 1)
        model.go.set()
        expect_answer(page)


class Halting(Patient):
    """Waits only after the first stage."""

    async def sample(self, prompt: Prompt, *arguments: Any, **named: Any) -> list[Continuation]:
        waiting = super() if "<SUMMARY>" in prompt.prefix else super(Patient, self)
        return await waiting.sample(prompt, *arguments, **named)


def test_what_the_user_opens_stays_open_while_the_search_grows(page: Page) -> None:
    model = Halting()
    with served(model) as server:
        visit(page, server)
        page.get_by_label("Question").fill("How many?")
        ask(page)
        expect(answer(page)).to_contain_text("Searching: caption...")
        won = answer(page).locator(".lc-kept").first.get_attribute("id")
        lost = answer(page).locator(".lc-card:not(.lc-kept)").first.get_attribute("id")
        for name in (won, lost):
            page.locator(f"#{name} summary").click()
        model.go.set()
        expect_answer(page)
        assert page.locator(f"#{lost}").evaluate("card => card.open") is True
        assert page.locator(f"#{won}").evaluate("card => card.open") is False
        assert lost in page.evaluate("document.activeElement.closest('details').id")


def test_it_is_readable_on_a_phone(browser: Browser, server: Served) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as phone:
        phone.set_default_timeout(PATIENCE * 1000)
        page = phone.new_page()
        visit(page, server)
        page.get_by_label("Question").fill("How many?")
        page.get_by_role("button", name="Ask").tap()
        expect_answer(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert answer(page).locator(".lc-stage p").first.bounding_box()["width"] > 250


def test_with_a_key_the_page_asks_for_it(page: Page) -> None:
    with served(ScriptedModel(noisy), ServerSettings(api_key="s3crét 鍵")) as server:
        assert get(f"{server.url}/methods").status_code == 401
        page.goto(server.root)
        expect(answer(page)).to_have_text("This server needs an API key; enter it.")
        expect(page.get_by_label("Question")).to_be_disabled()
        for key, words in (
            ("wrong", "The API key is wrong; enter the server's."),
            ("s3crét 鍵", "Unlocked."),
        ):
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Unlock").click()
            expect(answer(page)).to_have_text(words)
        expect(page.get_by_label("API key")).to_be_hidden()
        page.get_by_label("Question").fill("How many?")
        ask(page)
        expect_answer(page)
        assert "s3cr" not in page.url
        page.reload()
        expect(page.get_by_label("Question")).to_be_enabled()


def test_an_open_page_does_not_hold_a_shutdown(page: Page) -> None:
    with running() as (process, url):
        visit(page, Served(url))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, b"", b"")
