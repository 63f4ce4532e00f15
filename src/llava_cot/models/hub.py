"""Models and adapters on the Hugging Face Hub, by name, through huggingface_hub: its cache, token, endpoint.

Fetched are safetensors weights and the files that describe a network, a tokenizer and a processor, from the
top folder of a repository. Nothing else is, whatever the repository has.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_cot.core.files import read_bounded, write_whole
from llava_cot.core.wording import meant, plural, shortened
from llava_cot.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
REWARD_HEAD = "reward_head.safetensors"  # beside the weights of a reward model of our own
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w./-]*))?", re.ASCII)
_LONGEST = 200  # characters
# Configurations, tokenizers and chat templates, as transformers names them.
_DESCRIBES = re.compile(
    r"[\w-]*(config|token[\w-]*|chat_template|special_tokens_map|llava-cot)\.json|vocab\.(json|txt)|merges\.txt"
    r"|[\w.-]+\.(jinja|model|tiktoken)",
    re.ASCII,
)
_PART = re.compile(r"[\w-][\w.-]*\.safetensors", re.ASCII)
_CODE = re.compile(r"[A-Za-z_]\w*\.py", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_INDEX_BYTES = 2**26
_PATIENCE = 10.0  # seconds until the hub counts as not reachable
_HASHED_AT_ONCE = 4


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, and perhaps one of its revisions: a branch, a tag or a commit."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_name(text: str) -> HubName | None:
    """The repository that a text names as `org/name` or `org/name@revision`; None if it names none."""
    found = _NAME.fullmatch(text)
    if found is None or len(text) > _LONGEST or ".." in text or "--" in found[1]:
        return None
    return HubName(found[1], found[2])


@dataclass(frozen=True)
class _File:
    size: int
    sha256: str | None  # of large files
    blob: str | None  # git's hash of others


def fetch(name: HubName, *, code: bool = False) -> Path:
    """The folder of a repository's files in the cache, after downloading what is missing there.

    The hub is asked once for the revision's commit; a commit whose files are there needs nothing more. If the
    hub cannot be reached, or HF_HUB_OFFLINE is set, the cache alone is used. What is downloaded is compared
    with the hub's checksums.

    Args:
        name: The repository.
        code: Fetch the repository's Python files too.

    Raises:
        ModelError: There is no such model or revision, it is gated or has no safetensors weights, it does not
            fit on the disk, a file is damaged, or the hub cannot be reached and the cache has not all files.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return _cached(name, "HF_HUB_OFFLINE is set: unset it to download the model")
    try:
        with _in_words(name):
            info = HfApi().model_info(
                name.repo, revision=name.revision, files_metadata=True, timeout=_PATIENCE
            )
    except _Unreachable as error:
        return _cached(name, str(error))
    try:
        with _in_words(name):
            return _fetch(name, str(info.sha), _files(info), code)
    except _Unreachable as error:
        raise ModelError(
            f"the download of {name} broke off, since {error}; run the same command again to continue it"
        ) from None


def data_set_commit(name: HubName) -> str:
    """The commit that a data set's revision means now. Raises ModelError if the hub does not say."""
    from huggingface_hub import HfApi, constants

    here = f"hf download --repo-type dataset {name.repo} --local-dir FOLDER"
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"there is no folder {name}, and HF_HUB_OFFLINE is set: download the data set ({here}), and name "
            "that folder"
        )
    try:
        with _in_words(name, "data set"):
            commit = str(HfApi().dataset_info(name.repo, revision=name.revision, timeout=_PATIENCE).sha)
    except _Unreachable as error:
        raise ModelError(f"the data set {name} cannot be read, since {error}; try again later") from None
    if not _COMMIT.fullmatch(commit):
        raise ModelError(f"{constants.ENDPOINT} is no hub: it names no commit of {name}; check HF_ENDPOINT")
    return commit


class _Unreachable(Exception):
    """The hub does not answer, or answers that it cannot now, as the message says."""


@contextmanager
def _in_words(name: HubName, what: str = "model") -> Iterator[None]:
    """Turn huggingface_hub's errors into ModelError, or into `_Unreachable`.

    What the server wrote is not quoted: it may repeat the token.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = "/".join([constants.ENDPOINT, *(["datasets"] if what == "data set" else []), name.repo])
    log_in = "with another token: hf auth login" if get_token() else "with your token: hf auth login"
    try:
        yield
    except ModelError:
        raise
    except GatedRepoError:
        raise ModelError(f"{name} is gated: ask for access at {page}, then log in {log_in}") from None
    except RepositoryNotFoundError:
        similar = meant(name.repo, (path.as_posix() for path in _folders(name)))
        raise ModelError(
            f"there is no folder {name}, and no {what} of that name on the hub that you may see; "
            f"{similar}check the spelling, or if it is private, log in {log_in}"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(
            f"{name.repo} has no revision {name.revision}; {page}/tree/main lists them, and {name.repo} "
            "alone is the newest"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ModelError(f"the hub does not accept your token for {name}; log in {log_in}") from None
        if status == 404:
            raise ModelError(
                f"a file of {name} is gone from the hub, or changed meanwhile; run the same command again"
            ) from None
        raise _Unreachable(f"the hub ({constants.ENDPOINT}) answered {status}") from error
    except LocalEntryNotFoundError as error:
        raise _Unreachable(f"the hub ({constants.ENDPOINT}) cannot be reached") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ModelError(
            f"downloading {name} failed ({shortened(str(error), 200)}); run the same command again"
        ) from None
    except Exception as error:  # of the HTTP client, which differs between versions
        raise _Unreachable(f"the hub ({constants.ENDPOINT}) cannot be reached") from error


def _folders(name: HubName) -> list[Path]:
    """The folders on this machine of which a name may be a misspelling."""
    try:
        return [path for path in Path(name.repo).parent.iterdir() if path.is_dir()]
    except OSError:
        return []


def _files(info: Any) -> dict[str, _File]:
    """The files at the top of a repository, by name."""
    found = {}
    for one in info.siblings or ():
        lfs = one.lfs
        size = lfs.size if lfs is not None else one.size
        found[one.rfilename] = _File(size or 0, lfs.sha256 if lfs is not None else None, one.blob_id)
    return found


def _fetch(name: HubName, commit: str, files: Mapping[str, _File], code: bool) -> Path:
    from huggingface_hub import constants, hf_hub_download, snapshot_download

    if not _COMMIT.fullmatch(commit):
        raise ModelError(f"{constants.ENDPOINT} is no hub: it names no commit of {name}; check HF_ENDPOINT")
    wanted = [file for file in files if _DESCRIBES.fullmatch(file) or (code and _CODE.fullmatch(file))]
    repository = _repository(name)
    folder = repository / "snapshots" / commit
    parts: list[str] = []
    if INDEX in files:
        if not (folder / INDEX).is_file():
            hf_hub_download(name.repo, INDEX, revision=commit, tqdm_class=progress_bar())
        parts = _parts(folder / INDEX)
        wanted.append(INDEX)
    elif WEIGHTS in files:
        parts = [WEIGHTS]
    if ADAPTER_CONFIG in files and ADAPTER in files:
        parts.append(ADAPTER)
    if REWARD_HEAD in files and parts:
        parts.append(REWARD_HEAD)
    if missing := [part for part in parts if part not in files]:
        raise ModelError(f"{name} is incomplete on the hub: {missing[0]} is missing; ask its authors")
    if not parts:
        raise ModelError(_no_weights(name, files))
    wanted += parts
    unchecked = repository / f"unchecked-{commit}"  # there while files of this commit are
    missing = [file for file in wanted if not (folder / file).is_file()]
    if missing:
        new = [file for file in missing if not _has_content(repository, files[file])]
        size = sum(files[file].size for file in new)
        check_disk(str(name), repository, size)
        repository.mkdir(parents=True, exist_ok=True)
        write_whole(unchecked, json.dumps(sorted({*missing, *_listed(unchecked)})))
        if new:
            announce(f"downloading {name} ({commit[:7]}): {plural(len(new), 'file')}, {shown_bytes(size)}")
        snapshot_download(name.repo, revision=commit, allow_patterns=wanted, tqdm_class=progress_bar())
    if absent := [file for file in wanted if not (folder / file).is_file()]:
        raise ModelError(
            f"{absent[0]} of {name} did not arrive; delete {repository}, and run the command again"
        )
    _check_inside(folder, wanted)
    if unchecked.is_file():
        _check_sums(name, folder, files, [file for file in _listed(unchecked) if file in wanted])
        unchecked.unlink(missing_ok=True)
    if name.revision != commit:
        reference = repository / "refs" / (name.revision or constants.DEFAULT_REVISION)
        with suppress(OSError, ValueError):  # a cache that may only be read
            if not reference.is_file() or reference.read_text(encoding="utf-8") != commit:
                reference.parent.mkdir(parents=True, exist_ok=True)
                write_whole(reference, commit)
    return folder


def _has_content(repository: Path, about: _File) -> bool:
    """Whether the cache has a file's content, of another commit perhaps."""
    digest = about.sha256 or about.blob or ""
    return _DIGEST.fullmatch(digest) is not None and (repository / "blobs" / digest).is_file()


def _repository(name: HubName) -> Path:
    from huggingface_hub import constants

    folder = "--".join(("models", *name.repo.split("/")))
    return Path(constants.HF_HUB_CACHE).expanduser().resolve() / folder


def _parts(index: Path) -> list[str]:
    """The files of weights that an index names. Raises ModelError."""
    try:
        named = set(json.loads(read_bounded(index, _INDEX_BYTES))["weight_map"].values())
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):
        raise ModelError(f"{index} is damaged; delete it, and run the same command again") from None
    if strange := [part for part in named if not _PART.fullmatch(str(part))]:
        raise ModelError(f"{index} names {str(strange[0])[:80]!r}, which is no file of weights")
    return sorted(named)


def _no_weights(name: HubName, files: Iterable[str]) -> str:
    if pickled := [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt"))]:
        return (
            f"{name} has its weights in a pickle format ({pickled[0]}), which can run code, and none in "
            "safetensors; name a repository or a revision that has safetensors"
        )
    if quantized := [file for file in files if file.endswith(".gguf")]:
        return (
            f"{name} has GGUF files ({quantized[0]}), which a llama.cpp server runs; name the repository of "
            "the safetensors weights, or the server's address"
        )
    return f"{name} has no {WEIGHTS} and no {ADAPTER}; name a repository with safetensors weights"


def check_disk(what: str, place: Path, size: int) -> None:
    """Raise ModelError if a download to a folder, which need not be there yet, does not fit on its disk."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if size > free:
        raise ModelError(
            f"{what} needs {shown_bytes(size)}, and the disk of {there} has {shown_bytes(free)} free; make "
            "room, or name a folder on another disk in HF_HOME (models) or LMUData (benchmarks)"
        )


def announce(text: str) -> None:
    """Say what is about to be downloaded, where huggingface_hub will show its progress bars."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    out = _terminal()
    if are_progress_bars_disabled() or out is None:
        return
    start = "\r\x1b[K" if out.isatty() else ""  # over a line of status
    out.write(f"{start}{text}\n")
    out.flush()


def _terminal() -> Any:
    """Standard error as it is: commands let no text through to it that moves the cursor, as bars must."""
    return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def progress_bar() -> Any:
    """huggingface_hub's progress bar, on terminals alone."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            out = _terminal()
            if out is None or not out.isatty():
                options["disable"] = True
            super().__init__(*args, **{**options, "file": out})  # type: ignore[no-untyped-call]

    return Bar


def shown_bytes(size: int) -> str:
    """A size in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _listed(unchecked: Path) -> list[str]:
    try:
        return [str(file) for file in json.loads(unchecked.read_text(encoding="utf-8"))]
    except (OSError, RecursionError, TypeError, ValueError):
        return []


def _check_sums(name: HubName, folder: Path, files: Mapping[str, _File], new: Sequence[str]) -> None:
    """Compare files with the hub's checksums, and remove those that differ. Raises ModelError for these."""
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        sums = pool.map(lambda file: _has_sum(folder / file, files[file]), new)
        damaged = [file for file, good in zip(new, sums, strict=True) if not good]
    for file in damaged:
        (folder / file).resolve().unlink(missing_ok=True)
        (folder / file).unlink(missing_ok=True)
    if damaged:
        raise ModelError(
            f"{damaged[0]} of {name} arrived with another checksum than the hub names, and was removed; run "
            "the same command again"
        )


def _has_sum(path: Path, about: _File) -> bool:
    size = path.stat().st_size
    if size != about.size:
        return False
    if about.sha256 is not None:
        digest, expected = hashlib.sha256(), about.sha256
    elif about.blob is not None:
        digest, expected = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), about.blob
    else:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest() == expected


def _check_inside(folder: Path, files: Iterable[str]) -> None:
    """Raise ModelError if a file of the cache is a link that leads out of it."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE).expanduser().resolve()
    for file in files:
        if not (folder / file).resolve().is_relative_to(root):
            raise ModelError(f"{folder / file} leads out of the cache {root}; delete {folder}")


def _cached(name: HubName, why: str) -> Path:
    """The folder of a repository in the cache, without asking the hub. `why` ends the error's sentence."""
    repository = _repository(name)
    commit = name.revision or "main"
    with suppress(OSError, UnicodeDecodeError):
        commit = (repository / "refs" / commit).read_text(encoding="utf-8").strip()
    folder = repository / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not folder.is_dir():
        raise ModelError(
            f"there is no folder {name}, no such model in the cache ({repository.parent}), and {why}"
        )
    parts = _parts(folder / INDEX) if (folder / INDEX).is_file() else [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / ADAPTER_CONFIG).is_file():
        parts = [ADAPTER]
    names = [path.name for path in folder.iterdir()]
    missing = [file for file in (*parts, *_listed(repository / f"unchecked-{commit}")) if file not in names]
    if missing:
        raise ModelError(f"{name} is incomplete in the cache: {missing[0]} is missing, and {why}")
    _check_inside(folder, names)
    return folder
