"""Downloading benchmarks' files from where VLMEvalKit has them, into its folder, with its checksums."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from llava_cot.errors import DataError, ModelError
from llava_cot.models.hub import announce, check_disk, progress_bar, shown_bytes

# `DATASET_URL` and `DATASET_MD5` in `vlmeval/dataset/image_*.py` of VLMEvalKit (ms-vlmeval 0.0.20).
_HOME = "https://opencompass.openxlab.space/utils"
URLS = {
    f"{name}.tsv": f"{_HOME}/{folder}/{name}.tsv"
    for folder, names in (
        ("VLMEval", "MMStar AI2D_TEST AI2D_TEST_NO_MASK HallusionBench MMVet MathVista_MINI"),
        ("benchmarks/MMBench", "MMBench_DEV_EN_V11 MMBench_TEST_EN_V11"),
    )
    for name in names.split()
}
_MD5 = {
    "MMStar.tsv": "e1ecd2140806c1b1bbf54b43372efb9e",
    "AI2D_TEST.tsv": "0f593e0d1c7df9a3d69bf1f947e71975",
    "AI2D_TEST_NO_MASK.tsv": "fd8f463634d4fe9fbd23b876e8eea5be",
    "HallusionBench.tsv": "0c23ac0dc9ef46832d7a24504f2a0c7c",
    "MMVet.tsv": "748aa6d4aa9d4de798306a63718455e3",
    "MathVista_MINI.tsv": "f199b98e178e5a2a20e7048f5dcb0464",
    "MMBench_DEV_EN_V11.tsv": "30c05be8f2f347a50be25aa067248184",
    "MMBench_TEST_EN_V11.tsv": "8d1a704e791df6f5d9fb3ef782b65365",
}


def fetch_file(name: str, folder: Path) -> Path:
    """Download one of `URLS` into a folder, which is made if need be. An unfinished download is resumed.

    Raises DataError if it cannot be had, does not fit on the disk, or has another checksum than VLMEvalKit's.
    """
    file, lock = folder / name, folder / f"{name}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock):
            if not file.is_file():  # another process may just have brought it
                _download(URLS[name], file)
    except ModelError as error:
        raise DataError(str(error)) from None
    finally:
        with suppress(OSError):
            lock.unlink()
    return file


def _download(url: str, file: Path) -> None:
    from huggingface_hub.file_download import http_get

    part = file.with_name(f"{file.name}.part")
    try:
        size = _size(url)
        with part.open("ab") as out:
            there = out.tell()
            if size is None or there > size:
                out.truncate(there := 0)
            check_disk(file.name, file.parent, (size or 0) - there)
            shown = "" if size is None else f": {shown_bytes(size - there)}"
            announce(f"downloading {url} to {file.parent}{shown}")
            http_get(url, out, resume_size=there, expected_size=size, tqdm_class=progress_bar())
    except ModelError:
        raise
    except Exception as error:  # of the HTTP client, which differs between versions
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = "failed" if status is None else f"failed (the server answered {status})"
        raise DataError(
            f"the download of {url} {why}; run the same command again to continue it, or put the file into "
            f"{file.parent}"
        ) from None
    if _md5(part) != _MD5[file.name]:
        part.unlink()
        raise DataError(
            f"{file.name} from {url} has another checksum than VLMEvalKit names, and was removed; run the "
            f"same command again, or put the right file into {file.parent}"
        )
    part.replace(file)


def _size(url: str) -> int | None:
    """The size of a file on the web; None if its server does not say."""
    from huggingface_hub import get_session

    length = get_session().head(url, follow_redirects=True, timeout=20).headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 15 else None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
