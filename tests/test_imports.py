"""Who may import whom: the layers of the package, no circles, and what must stay cheap to import."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import llava_cot

ROOT = Path(llava_cot.__file__).parent
HEAVY = {"torch", "transformers"}

# A package may import those in lower layers, and itself. Packages of one layer do not know one another.
LAYERS = [
    {"errors"},
    {"core"},
    {"models", "scenes"},
    {"search"},
    {"data"},
    {"evaluation"},
    {"train"},
    {"view"},
    {"server"},
    {"cli"},
]
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}


def package_of(module: str) -> str:
    return module.split(".")[1]


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(("llava_cot", *(parts[:-1] if parts[-1] == "__init__" else parts)))
        found[name] = path
    return found


def imported(path: Path, known: set[str], at_top: bool = False) -> set[str]:
    """The package's own modules that a file imports: anywhere in it, or only when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(tree.body) if at_top else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                child = f"{node.module}.{alias.name}"
                found |= {child if child in known else node.module or ""} & known
    return found


def names_imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_only_three_modules_are_at_the_root() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


def test_packages_import_lower_layers_alone() -> None:
    known = modules()
    wrong = []
    for name, path in known.items():
        if name in {"llava_cot", "llava_cot.__main__"}:
            continue
        for other in imported(path, set(known)) - {"llava_cot"}:
            mine, theirs = package_of(name), package_of(other)
            if mine != theirs and LEVEL[theirs] >= LEVEL[mine]:
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_no_circle_of_imports() -> None:
    known = modules()
    graph = {name: imported(path, set(known), at_top=True) - {name} for name, path in known.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_core_and_search_load_neither_torch_nor_transformers() -> None:
    for name, path in modules().items():
        if name.startswith(("llava_cot.core", "llava_cot.search", "llava_cot.scenes", "llava_cot.view")):
            assert not names_imported(path) & HEAVY, name


def test_http_frameworks_are_used_by_the_server_alone() -> None:
    http = {"fastapi", "starlette", "uvicorn", "prometheus_client"}
    for name, path in modules().items():
        if not name.startswith("llava_cot.server"):
            assert not names_imported(path) & http, name


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_searching_needs_no_torch() -> None:
    assert not loaded_by("import llava_cot.search.ask, llava_cot.models.scripted") & HEAVY


def test_importing_the_package_costs_nothing() -> None:
    assert not loaded_by("import llava_cot") & (HEAVY | {"pydantic", "PIL", "asyncio", "numpy"})


def test_the_exported_names_are_functions_regardless_of_earlier_imports() -> None:
    statement = "import llava_cot.search.ask, llava_cot.models.registry\n"
    statement += "from llava_cot import ask, ask_sync, open_model\n"
    loaded_by(statement + "assert callable(ask) and callable(ask_sync) and callable(open_model)")
    loaded_by("import llava_cot\nassert not hasattr(llava_cot, 'nonsense')")
