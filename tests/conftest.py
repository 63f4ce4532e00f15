import os
from pathlib import Path

import pytest
from hypothesis import settings
from turns import in_turn

# A busy machine is no reason to fail. `make check` draws fewer examples than `make test`.
settings.register_profile("all", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=25)

HERE = Path(__file__).parent
# Files that take more than four seconds of processor time, by the beginnings of their paths: `make check`
# leaves them to `make test`. (A test that is slow by itself has the marker.)
SLOW = (
    "cli/test_completion",
    "cli/test_help",
    "core/test_decoding",
    "core/test_plugins",
    "data/test_preferences_trl",
    "data/test_store",
    "docs/test_commands",
    "docs/test_notebooks",
    "e2e/",
    "evaluation/test_cluster",
    "evaluation/test_statistics",
    "examples/test_plugin.py",
    "fuzz/",
    "golden/",
    "evaluation/forecast/",
    "models/test_balanced_model",
    "models/test_constraints",
    "models/test_encoding",
    "models/test_engine_faults",
    "models/test_equality",
    "models/test_local",
    "models/test_plain_text",
    "models/test_sampler",
    "models/test_sweep",
    "research/",
    "scenes/test_spelling",
    "search/methods/test_adaptive_mini",
    "server/test_bounds",
    "server/test_client",
    "server/test_page",
    "server/test_queue",
    "server/test_refused",
    "server/test_serve",
    "test_benchmark",
    "test_data_benchmark",
    "test_endpoint_benchmark",
    "test_wheel",
    "train/test_before_after",
    "train/test_dpo",
    "train/test_implicit",
    "train/test_reward",
    "train/test_train_benchmark",
    "train/test_training_run",
    "view/test_report_browser",
    "view/test_report_charts",
)
# The longest ones begin first, so that no core is left waiting for one at the end.
FIRST = (
    "docs/test_commands", "train/test_training_run", "test_endpoint_benchmark", "test_data_benchmark",
    "server/test_serve", "research/", "e2e/", "fuzz/",
)  # fmt: skip
# Whole runs in processes of their own, of ten seconds and more each, whose parts have faster tests, too: the
# beginnings of their names. With a number as SWEEP every fourth of them is run.
ROTATING = (
    "docs/test_notebooks.py::test_a_notebook_runs",
    "e2e/test_mini.py::test_the_examples_run",
    "e2e/test_reproduce.py::test_mini_in_two_processes",
    "e2e/test_reproduce.py::test_a_signal",
    "e2e/test_unclosed.py",
    "research/mini/test_mini_run.py::test_killed",
    "research/paper/test_command.py::test_it_is_interrupted",
    "server/test_serve_benchmark.py",
    "test_data_benchmark.py",
    "test_endpoint_benchmark.py",
    "train/test_before_after.py::test_of_two_processes",
    "train/test_implicit.py::test_a_killed_run",
    "train/test_implicit.py::test_two_processes",
    "train/test_train_benchmark.py",
    "train/test_training_run.py::test_a_killed_run",
    "train/test_training_run.py::test_fsdp",
)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "all")


def pytest_report_header() -> str:
    return f"SWEEP={os.environ.get('SWEEP', 'all')}: the architectures and the long runs that are tested"


@pytest.hookimpl(optionalhook=True)  # test-vllm has no xdist
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for a server or a command of their own."""
    return (os.cpu_count() or 1) + 1


def is_slow(path: Path) -> bool:
    return path.relative_to(HERE).as_posix().startswith(SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the slow files for `make check`: that alone takes seconds."""
    skipped = config.option.markexpr == "not slow" and HERE in collection_path.parents
    return True if skipped and is_slow(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rotating = [item for item in items if _name(item).startswith(ROTATING)]
    left = {*rotating} - {*in_turn(rotating, 4)}
    config.hook.pytest_deselected(items=list(left))
    items[:] = [item for item in items if item not in left]
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: _rank(item.path))


def _name(item: pytest.Item) -> str:
    return item.nodeid.removeprefix("tests/")


def _rank(path: Path) -> int:
    name = path.relative_to(HERE).as_posix()
    return next((rank for rank, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))
