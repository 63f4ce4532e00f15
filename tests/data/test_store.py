"""The store keeps what was put, for one process at a time, and says in a sentence what is wrong with it."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llava_cot.data.store import STORE_FILE, Store
from llava_cot.errors import StoreError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS, KINDS = st.sampled_from(["a", "b", "é/1", "'; DROP", ""]), st.sampled_from(["x", "y"])


class Kept(RuleBasedStateMachine):
    """Against a dictionary, with the store opened anew now and then."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name))
        self.known: dict[tuple[str, str], Any] = {}

    @rule(key=KEYS, kind=KINDS, value=JSON)
    def put(self, key: str, kind: str, value: Any) -> None:
        self.store.put(key, kind, value)
        self.known[kind, key] = value

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store(Path(self.folder.name))

    @invariant()
    def same(self) -> None:
        for kind in ("x", "y"):
            expected = [(key, value) for (k, key), value in self.known.items() if k == kind]
            assert list(self.store.items(kind)) == expected
            assert list(self.store.items(kind, by_key=True)) == sorted(expected, key=lambda e: e[0].encode())
            assert self.store.counts().get(kind, 0) == len(expected)
        assert all(self.store.get(key, kind) == value for (kind, key), value in self.known.items())

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestKept = Kept.TestCase


def test_totals_count_what_has_no_number_as_nothing(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for i, usd in enumerate((0.5, None, 2)):
            store.put(str(i), "call", {"usd": usd})
        store.put("3", "call", {})
        store.put("0", "other", {"usd": 100})
        assert store.total("call", "usd") == 2.5
        assert store.total("none", "usd") == 0


@given(st.lists(st.text(st.characters(), max_size=2)))
def test_first_times(names: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        first = store.first_occurrences()
        seen: set[str] = set()
        for name in names:
            assert first(name) == (name not in seen)
            seen.add(name)
        again = store.first_occurrences()
        assert all(again(name) for name in seen)


def test_settings_are_kept_and_another_is_named(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.match_settings({"purpose": "p", "teacher": "a"})
    with Store(tmp_path) as store:
        store.match_settings({"purpose": "p", "teacher": "a"})
        with pytest.raises(StoreError, match="begun with teacher 'a', and not 'b'; use the same"):
            store.match_settings({"purpose": "p", "teacher": "b"})
        with pytest.raises(StoreError, match="seed 'not set', and not '1'"):
            store.match_settings({"purpose": "p", "teacher": "a", "seed": "1"})


def other_process(folder: Path, code: str) -> subprocess.Popen[str]:
    program = (
        f"from pathlib import Path\nfrom llava_cot.data.store import *\nfolder = Path({str(folder)!r})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program + textwrap.dedent(code)],
        stdin=subprocess.PIPE,  # some programs wait for it until they are killed
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = other_process(
        tmp_path, "store = Store(folder); store.put('k', 'x', 1); print('put', flush=True); input()"
    )
    assert first.stdout is not None and first.stdout.readline() == "put\n"
    with pytest.raises(StoreError, match="another process works on"):
        Store(tmp_path)
    first.kill()
    first.wait()
    with Store(tmp_path) as store:
        assert store.get("k", "x") == 1


def test_what_was_put_outlives_a_kill(tmp_path: Path) -> None:
    code = """
        store = Store(folder)
        for i in range(10**6):
            store.put(str(i), "x", {"text": "y" * 1000})
            print(i, flush=True)
    """
    process = other_process(tmp_path, code)
    assert process.stdout is not None
    printed = [int(process.stdout.readline()) for _ in range(500)]
    os.kill(process.pid, signal.SIGKILL)
    printed += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.wait()
    with Store(tmp_path) as store:
        saved = [int(key) for key, _ in store.items("x")]
    assert saved[: len(printed)] == printed and len(saved) <= len(printed) + 1


def test_a_full_disk_is_told_and_takes_nothing(tmp_path: Path) -> None:
    code = """
        import resource
        store = Store(folder)
        store.put("k", "x", "first")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            for i in range(1000):
                store.put(str(i), "x", "y" * 5000)
        except StoreError as error:
            print(i, error, flush=True)
    """
    output, _ = other_process(tmp_path, code).communicate()
    count, sentence = output.split(" ", 1)
    assert "disk" in sentence
    with Store(tmp_path) as store:
        assert store.counts() == {"x": 1 + int(count)}


def test_a_store_that_may_not_grow_says_so(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store._db.execute("PRAGMA max_page_count=20")
        with pytest.raises(StoreError, match=r"the disk is full, or .* make room and start again"):
            for i in range(1000):
                store.put(str(i), "x", "y" * 5000)
        assert store.get("0", "x") == "y" * 5000


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with Store(tmp_path) as store:
            saved = 0
            with pytest.raises(StoreError, match="the disk is full"):
                for i in range(1000):
                    store.put(str(i), "x", "y" * 5000)
                    saved += 1
            assert store.counts() == {"x": saved} and saved > 5
        with Store(tmp_path) as store:
            assert store.counts() == {"x": saved}
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_bytes(b"no data base" * 1000)
    with pytest.raises(StoreError, match=r"store.db is damaged .*recover"):
        Store(tmp_path)


def test_a_store_that_was_written_over(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for i in range(300):
            store.put(str(i), "x", "y" * 1000)
    file = tmp_path / STORE_FILE
    data = bytearray(file.read_bytes())
    data[8192:-4096] = os.urandom(len(data) - 8192 - 4096)
    file.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"), Store(tmp_path) as store:
        list(store.items("x"))
        store.counts()


def test_a_value_that_is_no_json(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("k", "x", 1)
    with sqlite3.connect(tmp_path / STORE_FILE) as db:
        db.execute("UPDATE entries SET value = 'torn'")
    db.close()
    with Store(tmp_path) as store, pytest.raises(StoreError, match="is damaged"):
        store.get("k", "x")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path)


def test_keys_and_settings(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.settings() == {} and store.keys("a") == []
        store.match_settings({"purpose": "test"})
        for key in ("z", "b", "z"):
            store.put(key, "a", 1)
        store.put("c", "other", 1)
        assert store.settings() == {"purpose": "test"} and store.keys("a") == ["z", "b"]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE TRIGGER t BEFORE INSERT ON entries BEGIN SELECT 1; END",
        "CREATE TABLE more (a)",
        "DROP TABLE entries; CREATE VIEW entries AS SELECT 1 AS number, 'x' AS kind, 'a' AS key, 1 AS value",
        "DROP TABLE settings; CREATE TABLE settings (name TEXT PRIMARY KEY, value AS (name || 'x'))",
    ],
)
def test_a_store_with_a_program_in_it_is_refused(tmp_path: Path, change: str) -> None:
    with Store(tmp_path) as store:
        store.put("a", "x", 1)
    with sqlite3.connect(tmp_path / STORE_FILE) as db:
        db.executescript(change)
    db.close()
    with pytest.raises(StoreError, match=r"is damaged .*that this package does not make"):
        Store(tmp_path)


@pytest.mark.parametrize("value", ["{", "[" * 10**5, "9" * 5000, "\x00", b"\xff\xfe"])
def test_a_value_that_is_no_json_is_damage(tmp_path: Path, value: Any) -> None:
    with Store(tmp_path) as store:
        store.put("a", "x", 1)
        store._db.execute("UPDATE entries SET value = ?", (value,))
        for read in (lambda: store.get("a", "x"), lambda: list(store.items("x"))):
            with pytest.raises(StoreError, match="is damaged"):
                read()
