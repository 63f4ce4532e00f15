"""Pictures of strangers: what takes too long or too much memory costs itself alone."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import hostile
import pytest
from command import COMMAND, environment, refusal
from PIL import Image

from llava_cot.core import decoder_pool, decoding, images
from llava_cot.core.decoder_pool import DecoderPool
from llava_cot.core.decoding import quick_pixels
from llava_cot.core.images import ImageLimits, load_image, read_image, upright_size
from llava_cot.data.record import Picture
from llava_cot.errors import ImageError

PICTURE = Image.linear_gradient("L").convert("RGB").resize((40, 30))
WEBP = hostile.encoded(PICTURE, "WEBP", lossless=True)
PLAIN = load_image(PICTURE)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits there")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    """A pool of two processes, which gives each picture 0.3 seconds."""
    pool = DecoderPool(2)
    monkeypatch.setattr(decoder_pool, "_pool", pool)
    monkeypatch.setattr(decoder_pool, "MAX_SECONDS", 0.3)
    yield pool
    pool.close()


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(data)
    return str(caught.value)


def processes(pool: DecoderPool) -> list[int]:
    return [decoder._process.pid for decoder in pool._all]


# Which files are decoded in this process


@pytest.mark.parametrize(
    "data",
    [
        hostile.encoded(PICTURE, "PNG"),
        hostile.encoded(PICTURE.convert("P"), "PNG", transparency=0),
        hostile.encoded(PICTURE, "JPEG"),
        hostile.encoded(PICTURE.convert("L"), "JPEG"),
        hostile.encoded(PICTURE, "JPEG", progressive=True, comment=b"hello"),
        hostile.encoded(PICTURE, "JPEG", exif=b"Exif\0\0", icc_profile=bytes(100_000)),
    ],
)
def test_a_plain_file_is_quick(data: bytes, pool: DecoderPool) -> None:
    assert quick_pixels(data) == 40 * 30
    assert load_image(data).pil.size == (40, 30)
    assert pool.started == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        hostile.encoded(PICTURE, "PNG")[:-8],
        hostile.much_exif(20_000),
        hostile.encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE]),
        hostile.encoded(Image.new("L", (2100, 2100)), "PNG"),
        hostile.encoded(Image.new("L", (1000, 1000)), "JPEG", progressive=True),
        hostile.png(hostile.chunk(b"tEXt", b"a\0b") * 1000),
        hostile.png(hostile.chunk(b"zTXt", b"a\0\0")),
        hostile.png(hostile.chunk(b"IHDR", bytes(13))),
        WEBP,
        hostile.encoded(PICTURE, "GIF"),
    ],
)
def test_any_other_file_is_not(data: bytes) -> None:
    assert quick_pixels(data) is None


def test_a_jpeg_of_many_scans_is_not_quick_however_it_is_made() -> None:
    assert quick_pixels(hostile.many_scans(3000, 100)) is None
    baseline = bytearray(hostile.encoded(PICTURE, "JPEG"))
    scan = baseline.index(b"\xff\xda")
    baseline[scan + 4] = 1  # a first scan with one of three components
    assert quick_pixels(bytes(baseline)) == 40 * 30
    assert quick_pixels(bytes(baseline[:-2] + baseline[scan:-2] * 4000)) is None


def test_quick_files_are_quick_whatever_is_in_them() -> None:
    slowest = 0.0
    for data in (hostile.much_exif(16_000), *hostile.damaged(1000, seed=1)):
        if quick_pixels(data) is not None:
            began = time.process_time()
            load_or_refuse(data)
            slowest = max(slowest, time.process_time() - began)
    assert slowest < 0.5


def load_or_refuse(data: bytes) -> None:
    with suppress(ImageError):
        assert load_image(data).pil.mode == "RGB"


# Limits


@pytest.mark.parametrize("name", hostile.SLOW)
def test_a_picture_that_takes_too_long(name: str, pool: DecoderPool) -> None:
    data = hostile.SLOW[name]()
    assert len(data) < ImageLimits().max_bytes
    began = time.perf_counter()
    if name.startswith(("PNG", "BMP")):  # a fast machine decodes it in time
        load_or_refuse(data)
    else:
        assert "seconds of computing" in refused(data)
    assert time.perf_counter() - began < 10
    assert load_image(WEBP) == PLAIN


@pytest.mark.parametrize("name", hostile.LARGE)
def test_a_picture_that_takes_much_memory(name: str, pool: DecoderPool) -> None:
    load_or_refuse(hostile.LARGE[name]())
    assert load_image(WEBP) == PLAIN
    if os.path.exists("/proc/self/status"):
        assert all(resident(pid) < 400_000_000 for pid in processes(pool))


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def test_a_thousand_hostile_pictures(pool: DecoderPool) -> None:
    """Of each kind, by four threads: none takes longer than its limit, and memory stays what it was."""
    files = [*hostile.damaged(980, seed=2), *(make() for make in (hostile.SLOW | hostile.LARGE).values())]
    files += [hostile.many_scans()] * (1000 - len(files))
    times: list[float] = []
    before = resident(os.getpid())

    def one(data: bytes) -> None:
        began = time.perf_counter()
        load_or_refuse(data)
        times.append(time.perf_counter() - began)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, files))
    assert len(times) == 1000
    assert max(times) < 10  # with 0.3 seconds of computing, and another picture before it
    assert resident(os.getpid()) - before < 300_000_000  # one of 50 megapixels takes 200 MB
    assert all(resident(pid) < 400_000_000 for pid in processes(pool))
    assert len(processes(pool)) <= 2
    assert load_image(WEBP) == PLAIN


def test_the_largest_picture_that_is_allowed_is_decoded() -> None:
    side = 7071
    large = hostile.encoded(Image.new("L", (side, side), 9), "TIFF", compression="tiff_lzw")
    assert load_image(large).pil.size == (side, side)


def test_little_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding, "_rgb", convert)
    message = refused(hostile.encoded(PICTURE, "PNG"))
    assert "not enough memory" in message and "damaged" not in message
    [reply] = decoding._reply(WEBP, 10_000, False)
    assert decoding.REPLY.unpack(reply)[0] == decoding.LITTLE_MEMORY


def test_a_process_that_the_system_kills_had_too_little_memory(pool: DecoderPool) -> None:
    load_image(WEBP)
    [pid] = processes(pool)
    timer = threading.Timer(0.05, os.kill, (pid, signal.SIGKILL))
    timer.start()
    message = refused(hostile.long_comment())
    assert "not enough memory" in message or "seconds of computing" in message
    assert load_image(WEBP) == PLAIN


# The processes


def test_a_process_is_used_again_and_replaced_after_its_end(pool: DecoderPool) -> None:
    for _ in range(3):
        assert load_image(WEBP) == PLAIN
    assert refused(WEBP[:40])
    assert upright_size(WEBP) == (40, 30)
    assert pool.started == 1
    os.kill(processes(pool)[0], signal.SIGKILL)
    time.sleep(0.05)
    assert load_image(WEBP) == PLAIN
    assert pool.started == 2 and len(processes(pool)) == 1


def test_many_threads_share_the_processes(pool: DecoderPool) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(load_image, [WEBP] * 40)) == {PLAIN}
    assert pool.started <= 2


def script(text: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(WEBP)
    (tmp_path / "script.py").write_text(
        "import sys\nfrom llava_cot import load_image\nprint(load_image(sys.argv[1]).pil.size)\n"
    )
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "a.webp")]
    done = subprocess.run(command, capture_output=True, env=environment(), check=True)
    assert (done.stdout, done.stderr) == (b"(40, 30)\n", b"")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_is_forked_has_processes_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(WEBP)
    text = """
import os, sys
from llava_cot import load_image
load_image(sys.argv[1])
child = os.fork()
load_image(sys.argv[1])
if child:
    _, status = os.waitpid(child, 0)
    print(load_image(sys.argv[1]).pil.size, status)
"""
    out, err = script(text, str(tmp_path / "a.webp")).communicate(timeout=60)
    assert (out, err) == (b"(40, 30) 0\n", b"")


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_no_process_outlives_its_parent(tmp_path: Path) -> None:
    """Neither an idle one nor one in the middle of a picture, also when the parent is killed."""
    (tmp_path / "slow.gif").write_bytes(hostile.long_comment())
    (tmp_path / "a.webp").write_bytes(WEBP)
    text = """
import sys, threading, time
from llava_cot.core import decoder_pool
from llava_cot import load_image
decoder_pool.MAX_SECONDS = 60.0
load_image(sys.argv[2])
threading.Thread(target=load_image, args=(sys.argv[1],)).start()
time.sleep(0.2)
load_image(sys.argv[2])
print(*(one._process.pid for one in decoder_pool._pool._all), flush=True)
"""
    parent = script(text, str(tmp_path / "slow.gif"), str(tmp_path / "a.webp"))
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(running(pid) for pid in pids)
    parent.kill()
    parent.communicate()
    until(lambda: not any(running(pid) for pid in pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_while_it_decodes(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "slow.gif").write_bytes(hostile.long_comment())
    command = [*COMMAND, "ask", str(tmp_path / "slow.gif"), "What is this?"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment())
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: bool(children.read_text().split()))
    pids = [int(pid) for pid in children.read_text().split()]
    process.send_signal(number)
    began = time.monotonic()
    process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode != 0
    until(lambda: not any(running(pid) for pid in pids))


# Regular files alone


def special_files(folder: Path) -> Iterator[Path]:
    os.mkfifo(folder / "fifo")
    yield folder / "fifo"
    (folder / "link").symlink_to(folder / "fifo")
    yield folder / "link"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        yield folder / "socket"
    for device in ("/dev/zero", "/dev/null", "/dev/tty"):
        if os.path.exists(device):
            yield Path(device)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    for path in special_files(tmp_path):
        for read in (load_image, read_image, upright_size):
            with pytest.raises(ImageError, match="give a regular file"):
                read(path)
        with pytest.raises(OSError, match="give a regular file"):
            Picture("a.png", path).read()


def test_a_command_refuses_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert "give a regular file" in refusal("ask", tmp_path / "a.png", "What is this?")
    assert "give a regular file" in refusal("ask", "/dev/zero", "What is this?")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd"])
def test_an_address_of_a_file_is_refused(url: str) -> None:
    with pytest.raises(ImageError):
        load_image(url, allow_private_hosts=True)


def test_a_file_that_is_replaced_by_a_pipe_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    looks = iter([regular])
    monkeypatch.setattr(images.Path, "stat", lambda self, **_: next(looks, None) or os.stat(self))
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    with pytest.raises(ImageError, match="give a regular file"):
        load_image(path)


def test_a_data_url_of_percent_signs_costs_little() -> None:
    began = time.process_time()
    for payload in ("%" * 20_000_000, "%4" * 10_000_000, "%41" * 8_000_000):
        with pytest.raises(ImageError):
            load_image(f"data:image/png,{payload}")
    assert time.process_time() - began < 3
