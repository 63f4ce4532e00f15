"""Registries: the package's own entries, those of entry points, and what other packages can do wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import refusal, run
from fake_package import install

from llava_cot.core.plugins import Registry
from llava_cot.search.methods import METHODS

GROUP = "llava_cot_tests.things"


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, here and in commands; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    before = set(sys.modules)
    yield tmp_path
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def things(*modules: str, decorated: bool = False) -> Registry[Any]:
    return Registry(GROUP, "thing", modules, decorated=decorated)


def test_what_was_added_is_listed_in_its_order() -> None:
    registry = things()
    assert (list(registry), len(registry), "b" in registry) == ([], 0, False)
    registry.add("b", 1)
    registry.add("a", 2)
    assert list(registry.items()) == [("b", 1), ("a", 2)]
    assert ("b" in registry, "c" in registry, registry.get("c")) == (True, False, None)
    with pytest.raises(KeyError):
        registry["c"]
    registry.remove("b")
    assert list(registry) == ["a"]


def test_a_name_is_taken_once() -> None:
    registry = things()
    entry = object()
    registry.add("a", entry)
    registry.add("a", entry)  # a module that is imported again
    with pytest.raises(ValueError, match="there is already a thing 'a'; choose another name"):
        registry.add("a", object())
    assert registry["a"] is entry


def test_the_own_modules_are_imported_at_the_first_access_in_their_order(path: Path) -> None:
    (path / "own_one.py").write_text("import own_registry\nown_registry.registry.add('one', 1)")
    (path / "own_two.py").write_text("import own_registry\nown_registry.registry.add('two', 2)")
    (path / "own_registry.py").write_text(
        "from llava_cot.core.plugins import Registry\n"
        f"registry = Registry({GROUP!r}, 'thing', ['own_two', 'own_one'], decorated=True)"
    )
    import own_registry

    assert "own_one" not in sys.modules
    assert list(own_registry.registry) == ["two", "one"]
    assert own_registry.registry["one"] == 1


def test_an_entry_point_is_listed_at_once_and_imported_when_it_is_used(path: Path) -> None:
    install(path, "more-things", {GROUP: {"red": "lazy_things:RED"}}, lazy_things="RED = object()")
    registry = things()
    registry.add("own", 1)
    assert list(registry) == ["own", "red"] and "red" in registry and len(registry) == 2
    assert "lazy_things" not in sys.modules
    assert registry["red"] is sys.modules["lazy_things"].RED
    assert registry["red"] is registry["red"]


def test_an_entry_point_may_register_itself(path: Path) -> None:
    code = """
        from self_registry import registry
        registry.add("red", "RED")
        registry.add("blue", "BLUE")
        def red(): ...
    """
    install(path, "more-things", {GROUP: {"red": "self_things:red"}}, self_things=code)
    (path / "self_registry.py").write_text(
        "from llava_cot.core.plugins import Registry\n"
        f"registry = Registry({GROUP!r}, 'thing', decorated=True)"
    )
    from self_registry import registry

    assert list(registry) == ["red"]
    assert registry["red"] == "RED"
    assert list(registry) == ["red", "blue"]


def test_an_entry_of_the_package_is_not_replaced(path: Path) -> None:
    install(path, "rude-things", {GROUP: {"own": "rude_things:OWN"}}, rude_things="OWN = 'theirs'")
    registry = things()
    registry.add("own", "ours")
    assert (registry["own"], list(registry)) == ("ours", ["own"])


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named 'a_package_that_"),
        ("def (", "SyntaxError: "),
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line second line"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("", "AttributeError: "),
    ],
)
def test_a_faulty_package_is_named_in_one_sentence(path: Path, code: str, fault: str) -> None:
    install(path, "faulty-things", {GROUP: {"bad": "faulty_things:BAD"}}, faulty_things=code)
    registry = things()
    registry.add("good", 1)
    assert list(registry) == ["good", "bad"] and registry["good"] == 1
    assert list(registry.items()) == [("good", 1)]
    with pytest.raises(ValueError) as caught:
        registry["bad"]
    sentence = str(caught.value)
    assert sentence.startswith("the thing 'bad' of the package faulty-things cannot be loaded: ")
    assert fault in sentence and "\n" not in sentence
    (path / "faulty_things.py").write_text("BAD = 2")  # it is not imported again
    with pytest.raises(ValueError, match="cannot be loaded"):
        registry["bad"]


def test_an_entry_point_that_registers_another_name_is_refused(path: Path) -> None:
    install(path, "odd-things", {GROUP: {"red": "odd_things:RED"}}, odd_things="RED = 1")
    registry = things(decorated=True)
    with pytest.raises(ValueError, match=r"odd_things:RED in .*\.things registers no thing 'red'; give both"):
        registry["red"]


def test_an_unknown_name_is_answered_with_those_that_there_are(path: Path) -> None:
    install(path, "more-things", {GROUP: {"red": "never_imported:RED"}})
    registry = things()
    registry.add("own", 1)
    assert str(registry.unknown("blue")) == "there is no thing 'blue'; choose one of own, red"


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a@b", "A", "1", "x\ny", None, 5])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="cannot name a thing; use lower-case letters"):
        things().add(name, 1)


# The registries of methods and judges, in a process of its own.

FIRST_ACCESS = """
import threading
from llava_cot.search.request import make_request

failures = []
start = threading.Barrier(8)

def look() -> None:
    start.wait()
    try:
        make_request("stage-beam", judge="logits")
    except ValueError as error:
        failures.append(error)

threads = [threading.Thread(target=look) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failures, failures
"""


def test_threads_may_look_up_at_the_same_time() -> None:
    subprocess.run([sys.executable, "-c", FIRST_ACCESS], check=True)


def test_the_packages_own_judge_is_not_taken_before_it_is_looked_up() -> None:
    code = (
        "from llava_cot import JUDGES, Judge, judge\n"
        "class Other(Judge):\n"
        "    async def score(self, question, stage, context, candidate, *, seed): ...\n"
        "try: judge('self')(Other)\n"
        "except ValueError as error: print(error)\n"
        "print(*JUDGES)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "there is already a judge 'self'; choose another name",
        "self logits likelihood implicit prm critic reward rules verifier",
    ]


PLUGIN = """
    from llava_cot import JudgeScore, Judge, judge, method

    @method("shouting", judge="longest", n=3)
    async def shouting(search):
        search.keep(await search.best(await search.sample("answer")))

    @judge("longest")
    class Longest(Judge):
        async def score(self, question, stage, context, candidate, *, seed):
            return JudgeScore(len(candidate.text))
"""
POINTS = {
    "llava_cot.methods": {"shouting": "shouting_plugin:shouting"},
    "llava_cot.judges": {"longest": "shouting_plugin:Longest"},
}


def test_a_method_and_a_judge_of_another_package_are_used_by_their_names(path: Path) -> None:
    install(path, "shouting", POINTS, shouting_plugin=PLUGIN)
    shown = " ".join(run("ask", "--help").stdout.decode().split())
    assert "prism-query or shouting;" in shown and "verifier or longest;" in shown
    options = ("--max-tokens", "30", "--json", "--trace", path / "trace.json")
    done = run("ask", "none", "How many?", "--method", "shouting", *options)
    assert done.returncode == 0, done.stderr
    trace = json.loads(done.stdout)["trace"]
    assert (trace["method"], trace["n"], trace["judge"], len(trace["verdicts"])) == (
        "shouting", 3, "longest", 2,
    )  # fmt: skip


def test_a_faulty_package_spoils_its_own_methods_alone(path: Path) -> None:
    install(path, "shouting", POINTS, shouting_plugin="import a_package_that_is_not_there")
    code = (
        "from llava_cot import make_request; from llava_cot.search.request import parse_spec\n"
        "from llava_cot.search.request import possible_judges, possible_methods\n"
        "from llava_cot.cli.options import complete_scoring_judges, complete_specs\n"
        "print(make_request('stage-beam').judge, parse_spec('best-of-4@logits').request().method)\n"
        "print('shouting' in possible_methods(), possible_judges('adaptive-best-of-n'))\n"
        "print(complete_specs('s')[0], complete_scoring_judges('lo'))\n"
        "try: make_request('magic')\n"
        "except ValueError as error: print(str(error)[:26])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "self best-of-n",
        "False ['logits', 'prm', 'critic', 'rules', 'verifier']",
        "single ['logits']",
        "there is no method 'magic'",
    ]
    sentence = (
        "the method 'shouting' of the package shouting cannot be loaded: ModuleNotFoundError: No module"
    )
    assert refusal("ask", "none", "How many?", "--method", "shouting").startswith(sentence)
    evaluation = ("eval", "scenes", "--model", "mini", "--out", path / "out")
    assert refusal(*evaluation, "--method", "shouting-4").startswith(sentence)


def test_the_order_of_methods_does_not_depend_on_imports() -> None:
    code = "import llava_cot.search.methods.majority\nfrom llava_cot import METHODS\nprint(*METHODS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(METHODS)


def test_a_notebook_may_define_a_method_again() -> None:
    code = (
        "from llava_cot import METHODS, method\n"
        "for number in range(2):\n"
        "    @method('mine', n=number + 1)\n"
        "    async def mine(search): ...\n"
        "assert METHODS['mine'].n == 2\n"
        "try:\n"
        "    method('single')(mine)\n"
        "except ValueError as error:\n"
        "    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "there is already a method 'single'" in done.stdout
