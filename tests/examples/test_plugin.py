"""The example plug-in, installed with llava-cot into a fresh environment and used there from every side."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from command import ROOT, environment
from playing import WORDS
from playwright.sync_api import expect, sync_playwright
from serving import PATIENCE, Served

from llava_cot.core.trace import Trace

pytestmark = pytest.mark.slow

PLUGIN = ROOT / "examples/plugin"
SCENE = ROOT / "examples/scene.png"
CHROMIUM = shutil.which("chromium")
QUESTION = "How many cubes are there?"
SHORT = ("--max-tokens", "100", "--quiet")


@dataclass(frozen=True)
class Installed:
    """An environment of its own. The model `logged` writes to `log` there."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log.jsonl"

    @property
    def variables(self) -> dict[str, str]:
        plain = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
        return plain | {"LLAVA_COT_LOG": str(self.log)}

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(self.root / "bin/llava-cot"), *map(str, arguments)]

    def run(self, *arguments: str | Path) -> str:
        """The standard output of llava-cot, which succeeds."""
        return self._output(self.command(*arguments))

    def python(self, code: str) -> str:
        """The standard output of Python code, which succeeds."""
        return self._output([str(self.root / "bin/python"), "-c", code])

    def _output(self, command: list[str]) -> str:
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=300,
            cwd=self.root, env=self.variables,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def logged(self) -> list[dict[str, Any]]:
        """The calls of the model since the last look."""
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        self.log.unlink()
        return lines

    @contextmanager
    def serving(self) -> Iterator[Served]:
        process = subprocess.Popen(
            self.command("serve", "--model", "logged:mini", "--port", "0"),
            stderr=subprocess.PIPE, text=True, cwd=self.root, env=self.variables,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(r"serving mini at (http://127\.0\.0\.1:\d+/v1)\n", line)
            assert found, line + process.stderr.read()
            yield Served(found[1])
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The package and the plug-in as wheels; their dependencies are those of the tests' environment."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    paths = {name: sysconfig.get_path(name) for name in ("purelib", "platlib")}
    [site] = {Path(p).relative_to(sys.prefix) for p in paths.values()}
    # A path file in a folder that was added by another one is not read: an editable llava-cot is not found.
    (root / site / "dependencies.pth").write_text("\n".join(set(paths.values())) + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", root / "bin/python"]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "install", *options, "--force-reinstall", ROOT, PLUGIN],
        capture_output=True, check=False, text=True, cwd=root,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Installed(root)


def test_it_is_short_and_the_package_that_is_tested_is_the_installed_one(installed: Installed) -> None:
    assert sum(len(path.read_text().splitlines()) for path in PLUGIN.rglob("src/**/*.py")) < 200
    code = "import llava_cot, llava_cot_plugin; print(llava_cot.__file__, llava_cot_plugin.__file__)"
    files = installed.python(code).split()
    assert len(files) == 2 and all(Path(file).is_relative_to(installed.root) for file in files)


def test_ask(installed: Installed) -> None:
    installed.run(
        "ask", SCENE, QUESTION, "--model", "logged:mini", "--method", "ab-mcts", "-n", "3",
        "--judge", "consistency", "--seed", "5", "--trace", "trace.json", *SHORT,
    )  # fmt: skip
    trace = Trace.load(installed.root / "trace.json")
    found = (trace.model, trace.method, trace.n, trace.judge, trace.judge_model)
    assert found == ("mini", "ab-mcts", 3, "consistency", "mini")
    assert trace.answer and list(trace.stages) == list(WORDS)
    assert len(trace.scores) == 3 and all(0 <= score.value <= 1 for score in trace.scores)
    calls = installed.logged()
    assert len(calls) == len(trace.candidates) + 3
    assert calls[0]["replies"] == [trace.candidates[0].text]
    assert QUESTION in calls[0]["messages"][0]["text"]

    # The same seed gives the same trace, in Python too.
    code = f"""
from llava_cot import Sampling, ask_sync, open_model
sampling = Sampling(seed=5, max_tokens=100)
model = open_model("logged:mini")
trace = ask_sync(
    model, {str(SCENE)!r}, {QUESTION!r}, method="ab-mcts", n=3, judge="consistency", sampling=sampling
)
model.close()
trace.save("again.json")
"""
    installed.python(code)
    again = Trace.load(installed.root / "again.json")
    assert (trace.text, trace.candidates, trace.scores) == (again.text, again.candidates, again.scores)
    assert installed.logged() == calls


def test_eval(installed: Installed) -> None:
    lines = installed.run(
        "eval", "disks", "--model", "logged:mini", "--method", "ab-mcts-2@consistency",
        "--method", "best-of-2@consistency", "--limit", "2", "--out", "run", "--json", *SHORT,
    )  # fmt: skip
    results = json.loads(lines)["results"]
    assert [(line["benchmark"], line["method"], line["questions"]) for line in results] == [
        ("disks", method, 2) for method in ("ab-mcts-2@consistency", "best-of-2@consistency")
    ]
    assert installed.logged()
    installed.run("report", "run", "--out", "report")


def test_serve_and_the_page(installed: Installed) -> None:
    url = f"data:image/png;base64,{base64.b64encode(SCENE.read_bytes()).decode()}"
    content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
    message: Any = [{"role": "user", "content": content}]
    with installed.serving() as server, server.client() as client:
        names = {model.id for model in client.models.list()}
        assert {"mini", "mini:ab-mcts-2", "mini:ab-mcts-4"} <= names
        for name in ("mini:ab-mcts-2", "mini:ab-mcts-2@consistency"):
            replies = [
                client.chat.completions.create(model=name, messages=message, seed=3, max_tokens=100)
                for _ in range(2)
            ]
            assert [reply.model for reply in replies] == [name] * 2
            one, two = (reply.choices[0].message.content for reply in replies)
            assert one and one == two
        assert installed.logged()
        methods = httpx.get(f"{server.root}/v1/methods", timeout=PATIENCE).json()["data"]
        [card] = [one for one in methods if one["id"] == "ab-mcts"]
        assert "consistency" in card["judges"]
        if CHROMIUM is not None:
            _click_through(CHROMIUM, server)
            assert installed.logged()


def _click_through(chromium: str, server: Served) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(server.root)
        page.get_by_label("Picture").set_input_files(SCENE)
        expect(page.get_by_alt_text(Path(SCENE).name)).to_be_visible()
        page.get_by_label("Question").fill(QUESTION)
        page.get_by_label("Method").select_option("ab-mcts")
        page.get_by_label("Judge").select_option("consistency")
        page.get_by_role("button", name="Ask").click()
        answer = page.locator("#answer")
        expect(answer.get_by_text("Link to this answer")).to_be_visible(timeout=PATIENCE * 1000)
        assert answer.locator(".lc-card").count() >= 4
        browser.close()
