import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import settings

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


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "all")
    # The processes of xdist take it over.
    os.environ.setdefault("SWEEP", str(date.today().toordinal()))


def pytest_report_header() -> str:
    return f"sweep of architectures: SWEEP={os.environ['SWEEP']} (repeat with it; all: make sweep)"


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> int:
    name = path.relative_to(HERE).as_posix()
    return next((rank for rank, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))
