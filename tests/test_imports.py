"""Who may import whom. Knowledge goes one way: methods and judges know models by protocol, models
know nothing of stages, methods or judges, and nothing but a local model needs torch."""

import ast
import subprocess
import sys
from pathlib import Path

import llava_cot

ROOT = Path(llava_cot.__file__).parent
ALWAYS_HEAVY = {"torch", "transformers"}


def imported(path: Path) -> set[str]:
    """Modules that a file names in imports, wherever they stand in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offenders(files: list[Path], forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if any(name == other or name.startswith(other + ".") for other in forbidden)
    ]


def test_methods_and_judges_know_models_by_their_protocol_alone() -> None:
    files = [*ROOT.glob("methods/*.py"), *ROOT.glob("judges/*.py"), ROOT / "record.py", ROOT / "asking.py"]
    models = {f"llava_cot.models.{path.stem}" for path in ROOT.glob("models/*.py")} - {
        "llava_cot.models.base",
        "llava_cot.models.forms",
    }
    assert len(files) > 12
    assert (
        offenders(
            files, ALWAYS_HEAVY | models | {"llava_cot.cli", "llava_cot.show", "llava_cot.models.open_model"}
        )
        == []
    )


def test_judges_know_no_method_and_only_the_makers_know_a_judge_by_name() -> None:
    assert offenders(list(ROOT.glob("judges/*.py")), {"llava_cot.methods", "llava_cot.record"}) == []
    concrete = {f"llava_cot.judges.{path.stem}" for path in ROOT.glob("judges/*.py")} - {
        "llava_cot.judges.base",
        "llava_cot.judges.calibration",
    }
    assert offenders([*ROOT.glob("methods/*.py"), ROOT / "record.py"], concrete) == []


def test_models_know_nothing_of_stages_methods_or_judges() -> None:
    forbidden = {"stages", "methods", "judges", "record", "asking", "trace", "prompting", "show", "cli"}
    assert offenders(list(ROOT.glob("models/*.py")), {f"llava_cot.{name}" for name in forbidden}) == []


def test_values_know_nothing_but_values() -> None:
    forbidden = {"models", "methods", "judges", "record", "asking", "show", "cli"} | ALWAYS_HEAVY
    files = [ROOT / name for name in ("stages.py", "question.py", "images.py", "trace.py")]
    assert offenders(files, {f"llava_cot.{name}" for name in forbidden} | ALWAYS_HEAVY) == []


def test_http_is_spoken_by_the_server_alone() -> None:
    http = {"fastapi", "starlette", "uvicorn", "prometheus_client"}
    files = [path for path in ROOT.rglob("*.py") if path.parent.name != "serve"]
    assert offenders(files, http) == []
    others = [path for path in files if path.name != "cli_serve.py"]
    assert offenders(others, {"llava_cot.serve"}) == []


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_searching_needs_no_torch() -> None:
    assert not loaded_by("import llava_cot.asking, llava_cot.models.scripted") & ALWAYS_HEAVY


def test_importing_the_package_costs_nothing() -> None:
    assert not loaded_by("import llava_cot") & (ALWAYS_HEAVY | {"pydantic", "PIL", "asyncio", "numpy"})


def test_the_exported_names_are_functions_whatever_was_imported_before() -> None:
    statement = "import llava_cot.asking, llava_cot.models; from llava_cot import ask, ask_sync, open_model\n"
    loaded_by(statement + "assert callable(ask) and callable(ask_sync) and callable(open_model)")
    loaded_by("import llava_cot\nassert not hasattr(llava_cot, 'nonsense')")
