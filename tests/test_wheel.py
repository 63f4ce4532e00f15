"""What the wheel holds: the package, with the built-in models' weights and nothing else that is large."""

import tomllib

from command import ROOT

from llava_cot.models.registry import BUILT_IN

PACKAGE = ROOT / "src/llava_cot"
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}
MEGABYTE = 1_000_000


def test_the_wheel_is_the_package_alone() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/llava_cot"]}


def test_the_files_of_the_web_page_are_in_the_package() -> None:
    static = PACKAGE / "server/static"
    assert {path.name for path in static.iterdir()} == {
        "examples", "icon.svg", "index.html", "page.css", "page.js",
    }  # fmt: skip


def test_only_the_built_in_models_are_in_the_package_and_it_is_small() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    weights = [path.relative_to(PACKAGE).as_posix() for path in files if path.suffix in WEIGHTS]
    assert sorted(weights) == sorted(f"models/{name}/model.safetensors" for name in BUILT_IN)
    assert sum(path.stat().st_size for path in files) < 30 * MEGABYTE


def test_nothing_in_the_package_uses_research() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert "from research" not in path.read_text() and "import research" not in path.read_text(), path
