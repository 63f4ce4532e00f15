"""The command line in process, on a scripted model: what is printed where, for which options."""

import io
import json
import re
from pathlib import Path

import pytest
from endpoint_double import Double
from PIL import Image
from typer.testing import CliRunner, Result

from llava_cot.cli.main import app
from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel

ANSWER = (
    "<SUMMARY> Count them. </SUMMARY>\n\n<CAPTION> Two cubes. </CAPTION>\n\n"
    "<REASONING> One and one. </REASONING>\n\n<CONCLUSION> 2 </CONCLUSION>"
)
KEYS = ["question", "images", "model", "method", "n", "seed", "stages", "answer", "usage", "warnings"]


class Recorded(ScriptedModel):
    """Answers with ANSWER, and judges that the second response is better."""

    def __init__(self, answer: str = ANSWER) -> None:
        def script(prompt: Prompt, _: object) -> str:
            asked = prompt.messages[-1].text
            if asked.startswith("How many?"):
                return answer[len(prompt.prefix) :]
            return "Verdict: correct." if "Verdict" in asked else "Since it is, I choose response 2."

        super().__init__(script)
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: recorded)
    return recorded


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "scene.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return str(path)


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(app, arguments, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_pipe_gets_the_answer_alone(model: Recorded, picture: str) -> None:
    result = run("ask", picture, "How many?")
    assert result.stdout == "2\n"
    assert model.closed
    assert re.fullmatch(r"\d+ model calls · .* s\n", result.stderr)


def test_quiet_says_nothing_else(model: Recorded, picture: str) -> None:
    result = run("ask", picture, "How many?", "--quiet", "--show-search")
    assert (result.stdout, result.stderr) == ("2\n", "")


def test_the_search_goes_to_standard_error(model: Recorded, picture: str) -> None:
    result = run("ask", picture, "How many?", "-n", "3", "--show-search")
    assert result.stdout == "2\n"
    assert result.stderr.count("not kept:") == 8
    assert result.stderr.count("both texts are the same") == 8


def test_the_paper_s_defaults_are_asked_for(model: Recorded, picture: str) -> None:
    run("ask", picture, "How many?")
    assert len(model.calls) == 4
    for call in model.calls:
        assert (call.n, call.sampling.temperature, call.sampling.top_p, call.sampling.max_tokens) == (
            2, 0.6, 0.9, 2048,
        )  # fmt: skip
        assert [image.name for image in call.prompt.messages[-1].images] == ["scene.png"]


def test_every_setting_arrives(model: Recorded, picture: str) -> None:
    result = run(
        "ask", picture, "How many?", "--method", "best-of-n", "-n", "5", "--judge", "likelihood",
        "--temperature", "0.3", "--top-p", "0.8", "--max-tokens", "99", "--seed", "7",
        "--json", "--trace", picture + ".json",
    )  # fmt: skip
    [call] = model.calls
    assert (call.n, call.sampling.temperature, call.sampling.top_p, call.sampling.max_tokens) == (
        5,
        0.3,
        0.8,
        99,
    )
    reply = json.loads(result.stdout)
    assert (reply["method"], reply["n"], reply["seed"], reply["trace"]["judge"]) == (
        "best-of-n", 5, 7, "likelihood",
    )  # fmt: skip


def test_a_model_is_opened_as_asked(picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    def open_model(*arguments: object, **settings: object) -> Recorded:
        opened.append((*arguments, settings))
        return Recorded()

    monkeypatch.setattr("llava_cot.models.registry.open_model", open_model)
    run("ask", picture, "How many?")
    run(
        "ask",
        picture,
        "How many?",
        "--model",
        "x",
        "--model-name",
        "y",
        "--device",
        "cuda:1",
        "--dtype",
        "float16",
        "--cache-mb",
        "9",
        "--adapter",
        "z",
        "--no-merge",
        "--trust-remote-code",
    )
    plain: dict[str, object] = {"adapters": (), "merge": True, "trust_remote_code": False}
    plain["chat_template_kwargs"] = None
    other = plain | {"adapters": ["z"], "merge": False, "trust_remote_code": True}
    assert opened == [
        ("mini", {"model_name": None} | plain),
        ("x", {"model_name": "y", "device": "cuda:1", "dtype": "float16", "cache_mb": "9"} | other),
    ]


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_arguments_of_a_template_that_are_no_object(picture: str, text: str) -> None:
    result = run("ask", picture, "How many?", "--chat-template-kwargs", text)
    assert result.exit_code == 2 and "JSON object" in result.stderr and len(result.stderr) < 2000


def test_json_is_one_object_of_the_promised_shape(model: Recorded, picture: str) -> None:
    result = run("ask", picture, "How many?", "--json")
    assert result.stderr == ""
    reply = json.loads(result.stdout)
    assert list(reply) == KEYS
    assert reply["question"] == "How many?"
    [image] = reply["images"]
    assert list(image) == ["name", "sha256", "width", "height"]
    assert (image["name"], image["width"], image["height"]) == ("scene.png", 30, 20)
    assert (reply["model"], reply["method"], reply["n"], reply["seed"]) == ("scripted", "stage-beam", 2, 0)
    assert reply["stages"] == {
        "summary": "Count them.", "caption": "Two cubes.", "reasoning": "One and one.", "conclusion": "2",
    }  # fmt: skip
    assert reply["answer"] == "2"
    assert list(reply["usage"]) == ["prompt_tokens", "completion_tokens", "model_calls", "seconds", "usd"]
    assert reply["usage"]["model_calls"] > 0


def test_absent_stages_are_null(model: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    sure = Recorded("<CONCLUSION> 2 </CONCLUSION>")
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: sure)
    reply = json.loads(run("ask", "none", "How many?", "--json", "--method", "single").stdout)
    assert reply["stages"] == {"summary": None, "caption": None, "reasoning": None, "conclusion": "2"}
    assert reply["images"] == []


def test_without_a_conclusion_nothing_is_printed_as_the_answer(
    model: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Recorded("<SUMMARY> Count them. </SUMMARY>")
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: cut)
    result = run("ask", "none", "How many?", "--method", "single")
    assert result.stdout == ""
    assert result.stderr.startswith("warning: the conclusion is absent, so there is no answer")


def test_a_trace_is_saved_and_shown(model: Recorded, picture: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    reply = json.loads(run("ask", picture, "How many?", "--json", "--trace", str(file)).stdout)
    assert Trace.load(file) == Trace.model_validate(reply.pop("trace"))
    assert list(reply) == KEYS
    tree = run("trace", str(file))
    assert "4 conclusion · 2 candidates, 1 duel, after #4" in tree.stdout
    page = run("trace", str(file), "--html", str(tmp_path / "page.html"))
    assert page.stdout == ""
    assert "How many?" in (tmp_path / "page.html").read_text()


def test_pictures_come_from_standard_input_and_by_repetition(model: Recorded, picture: str) -> None:
    data = io.BytesIO()
    Image.new("RGB", (5, 4), "blue").save(data, "PNG")
    result = run(
        "ask", "-", "How many?", "--image", picture, "--image", picture, "--json", stdin=data.getvalue()
    )
    images = json.loads(result.stdout)["images"]
    assert [image["name"] for image in images] == ["standard input", "scene.png", "scene.png"]
    assert [image.pil.size for image in model.calls[0].prompt.messages[-1].images] == [
        (5, 4),
        (30, 20),
        (30, 20),
    ]


def test_another_stage_format(model: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    thinker = Recorded("<think> hm </think> <answer> 2 </answer>")
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: thinker)
    reply = json.loads(run("ask", "none", "How many?", "--json", "--format", "think,answer").stdout)
    assert reply["stages"] == {"think": "hm", "answer": "2"}
    assert reply["answer"] == "2"
    assert [call.sampling.stop for call in thinker.calls] == [("</think>", "</answer>"), ("</answer>",)]


def test_a_model_that_thinks_is_told_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    model = ScriptedModel(lambda prompt, _: "One, two, three and on</think>2", thinks=True)
    model.close = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda _, **o: given.update(o) or model)
    ask = ("ask", "none", "How many?", "--json", "--method", "single", "--format", "thinking")
    kwargs = ("--chat-template-kwargs", '{"depth": 2}')
    reply = json.loads(run(*ask, "--think-tokens", "3", *kwargs).stdout)
    assert reply["stages"]["thinking"] == "One, two, three" and given["chat_template_kwargs"] == {"depth": 2}
    refused = run(*ask, "--chat-template-kwargs", "depth=2")
    assert refused.exit_code == 2 and "'depth=2' is no JSON object" in refused.output


def test_scenes_are_written(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    result = run("scenes", str(out), "--count", "3", "--seed", "5", "--split", "test")
    assert result.stdout == ""
    lines = (out / "questions.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert {"id", "image", "question", "options", "answer", "type"} <= set(json.loads(lines[0]))
    assert (out / json.loads(lines[0])["image"]).is_file()


def test_a_server_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with Double(ScriptedModel({}), "trailing", stops="silent") as server:
        result = run("models", "check", server.url)
        lines = dict(line.split("  ", 1) for line in result.stdout.splitlines())
        assert lines["model"].strip() == "scripted"
        assert "a last message of the assistant" in lines["assistant's text"]
        assert "neither included nor named" in lines["stop strings"]
        [kept] = (tmp_path / "llava-cot" / "endpoints").iterdir()
        assert json.loads(kept.read_text())["url"] == server.url and str(kept.parent) in result.stderr
        asked = len(server.bodies)
        server.stops = "kept"
        assert "included or named" in run("models", "check", server.url).stdout
        assert len(server.bodies) == 2 * asked  # anew


def test_other_judge_prompts(model: Recorded, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(
        "criteria: {answer: Would a teacher mark it as right}\n"
        "reply_form: ' Reply with Winner: A or Winner: B.'\nchoice: 'Winner:'\nchoices: [' A', ' B']\n"
    )
    common = ("ask", "none", "How many?", "--method", "best-of-n", "--seed", "1", "--json")
    common = (*common, "--trace", str(tmp_path / "trace.json"), "--judge-prompts", str(prompts))
    model._script = lambda prompt, rng: (
        "It is. Winner: B." if "teacher" in prompt.messages[0].text else f"<CONCLUSION> {rng.random()} </C"
    )
    trace = json.loads(run(*common).stdout)["trace"]
    [verdict] = trace["verdicts"]
    assert (verdict["winner"], verdict["decided_by"], verdict["reply"]) == (
        verdict["b"], "choice", "It is. Winner: B.",
    )  # fmt: skip
    prompts.write_text("criterion: x")
    with pytest.raises(ValueError, match=r"prompts\.yaml: criterion: there is no such field"):
        run(*common)
