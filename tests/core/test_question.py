import base64
import io
import random
import socket
import struct
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from llava_cot.core import download
from llava_cot.core.answer_matching import agrees, chosen_option, option_of
from llava_cot.core.images import upright_size
from llava_cot.core.question import (
    PLACE,
    ImageLimits,
    LoadedImage,
    Question,
    in_order,
    load_image,
    question_text,
)
from llava_cot.errors import ImageError
from llava_cot.evaluation.scoring.choice import infer_option
from llava_cot.search.restaging import answer_form
from llava_cot.search.stage_constraints import choices

RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """A picture without symmetry: red, with a blue corner at the top left."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (0, 0, width // 2, height // 2))
    return image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has hardly any pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return header + struct.pack(">I", 1000) + b"IDAT" + zlib.compress(bytes(1000))


PNG = encoded(picture())


def refused(source: object, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith("cannot read the image ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "images", "parts"),
    [
        ("a", (), ["a"]),
        ("", (), [""]),
        ("a", (1, 2), [1, 2, "a"]),
        (f"a{PLACE}b{PLACE}", (1, 2), ["a", 1, "b", 2]),
        (f"{PLACE}{PLACE}", (1, 2), [1, 2]),
        (f"a{PLACE}b", (1, 2), [1, "a", 2, "b"]),
        (f"a{PLACE}b{PLACE}c", (1,), ["a", 1, "b[picture]c"]),
        (f"a{PLACE}b", (), ["a[picture]b"]),
    ],
)
def test_a_text_and_its_images_in_order(text: str, images: tuple[int, ...], parts: list[object]) -> None:
    assert in_order(text, images) == parts


def test_a_letter_may_have_no_option() -> None:
    options = ("", "left", "", "right")
    assert question_text(Question("Which?", options=options)) == "Which?\nB. left\nD. right"
    assert [option_of(letter, options) for letter in "ABCD"] == [None, 1, None, 3]
    assert [chosen_option(said, options) for said in ("B", "(D)", "right", "A", "")] == [1, 3, 3, None, None]
    assert agrees("A", "B", options) is False and agrees("left", "B", options) is True
    assert agrees("7", "B", ("", "6", "8")) is False
    assert answer_form(Question("Which?", options=options)).endswith("alone: B or D")
    assert choices(options) == ["B", "D", "left", "right"]
    assert [infer_option(text, options) for text in ("A", "It is B", "right")] == [None, "B", "D"]


def test_the_same_picture_by_every_route(tmp_path: Path) -> None:
    path = tmp_path / "cubes.png"
    path.write_bytes(PNG)
    base = "data:image/png;base64," + base64.b64encode(PNG).decode()
    loaded = [
        load_image(source)
        for source in (str(path), path, PNG, base, picture(), encoded(picture(), "BMP"), load_image(path))
    ]
    assert len({image.sha256 for image in loaded}) == 1
    assert len(set(loaded)) == 1
    assert [image.name for image in loaded] == [
        "cubes.png",
        "cubes.png",
        "bytes",
        "data URL",
        "image",
        "bytes",
        "cubes.png",
    ]
    for image in loaded:
        assert (image.pil.mode, image.pil.size, image.pil.getpixel((0, 0))) == ("RGB", (40, 30), BLUE)
        assert type(image.pil) is Image.Image


def test_images_are_equal_by_their_pixels_and_shape_alone() -> None:
    wide, high = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert load_image(wide) != load_image(high)
    assert load_image(wide) != load_image(Image.new("RGB", (4, 2), RED))
    assert LoadedImage("a", "0", wide) == LoadedImage("b", "0", high)
    assert "pil" not in repr(load_image(wide))


def test_a_question_is_a_value() -> None:
    question = Question("How many?", (load_image(PNG),))
    assert question == Question("How many?", (load_image(picture()),))
    assert hash(question) == hash(Question("How many?", (load_image(picture()),)))
    assert (question.id, question.options, question.reference) == (None, (), None)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(form: str) -> None:
    image = load_image(encoded(picture(), form))
    assert image.pil.size == (40, 30)
    red, green, blue = image.pil.getpixel((39, 29))  # type: ignore[misc]
    assert red > 245 and green < 12 and blue < 12


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(form: str, orientation: int) -> None:
    # How a camera held in that way would have stored the picture.
    stored = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    image = picture()
    for turn in stored:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, form, exif=exif)
    assert upright_size(data) == (40, 30)
    for source in (data, Image.open(io.BytesIO(data))):
        upright = load_image(source).pil
        assert upright.size == (40, 30)
        corners = [upright.getpixel(at) for at in ((2, 2), (37, 2), (2, 27), (37, 27))]
        assert [pixel[2] > 128 for pixel in corners] == [True, False, False, False]  # type: ignore[index]
        assert not upright.getexif()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert load_image(encoded(picture(), "PNG", exif=exif)) == load_image(PNG)


def test_damaged_exif_does_not_spoil_the_picture() -> None:
    warnings.simplefilter("error")
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        assert load_image(encoded(picture(), "PNG", exif=exif)) == load_image(PNG)


def test_transparency_is_put_on_white() -> None:
    half = Image.new("RGBA", (3, 1), (0, 0, 255, 0))
    half.putpixel((1, 0), (255, 0, 0, 255))
    half.putpixel((2, 0), (0, 0, 0, 128))
    expected = [WHITE, RED, (127, 127, 127)]
    for image in (half, half.convert("RGBa")):
        assert [load_image(image).pil.getpixel((x, 0)) for x in range(3)] == expected
    for form in ("PNG", "TIFF"):
        assert load_image(encoded(half, form)).pil.getpixel((0, 0)) == WHITE
    grey = Image.new("LA", (1, 1), (7, 0))
    assert load_image(encoded(grey)).pil.getpixel((0, 0)) == WHITE
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        seen = load_image(encoded(palette, form, transparency=0)).pil
        assert [seen.getpixel((x, 0)) for x in range(2)] == [WHITE, RED]
    keyed = load_image(encoded(Image.new("RGB", (1, 1), BLUE), transparency=BLUE))
    assert keyed.pil.getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, 255),
        ("L", 90, 90),
        ("P", 0, 0),
        ("I;16", 65535, 255),
        ("I;16", 257 * 90, 90),
        ("I;16", 200, 0),
        ("I", 90, 90),
        ("I", 257 * 90, 90),
        ("F", 1.0, 255),
        ("F", 90.0, 90),
        ("F", float("nan"), 0),
    ],
)
def test_grey_depths(mode: str, colour: float, expected: int) -> None:
    image = Image.new(mode, (2, 2), colour)
    assert load_image(image).pil.getpixel((0, 0)) == (expected,) * 3


def test_values_outside_any_usual_range_are_stretched() -> None:
    image = Image.new("F", (2, 1), -10.0)
    image.putpixel((1, 0), 1e6)
    seen = load_image(image).pil
    assert [seen.getpixel((x, 0)) for x in range(2)] == [(0, 0, 0), WHITE]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB"])
def test_colour_spaces(mode: str) -> None:
    assert load_image(Image.new(mode, (2, 2))).pil.mode == "RGB"


def test_a_cmyk_file() -> None:
    red, green, blue = load_image(encoded(picture().convert("CMYK"), "JPEG")).pil.getpixel((39, 29))  # type: ignore[misc]
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    frames = encoded(picture(), form, save_all=True, append_images=[Image.new("RGB", (40, 30))], **options)
    assert load_image(frames) == load_image(PNG)


def test_limits(tmp_path: Path) -> None:
    small = ImageLimits(max_bytes=50, max_pixels=1199)
    assert "megapixels" in refused(PNG, limits=ImageLimits(max_pixels=1199))
    assert "40 x 30" in refused(picture(), limits=small)
    assert load_image(PNG, limits=ImageLimits(max_bytes=len(PNG), max_pixels=1200))
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    data_url = "data:;base64," + base64.b64encode(PNG).decode()
    for source in (PNG, path, data_url):
        assert "MB" in refused(source, limits=small)


@pytest.mark.parametrize("size", [(7072, 7072), (10_000, 10_000), (60_000, 60_000)])
def test_a_bomb_is_refused_before_it_is_decoded(
    size: tuple[int, int], recwarn: pytest.WarningsRecorder
) -> None:
    assert "megapixels" in refused(png_header(*size))
    assert not recwarn.list


def test_other_bombs() -> None:
    # A GIF whose first frame is larger than its screen, and a JPEG that claims 65,500 x 65,500 pixels.
    gif = bytearray(encoded(picture(), "GIF"))
    at = gif.index(b",\0\0\0\0")
    gif[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)
    jpeg = bytearray(encoded(picture(), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    for data in (gif, jpeg):
        assert "megapixels" in refused(bytes(data))


SVG = b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"hello", "in none of the formats PNG, JPEG, WEBP"),
        (SVG, "SVG"),
        (b"\n<svg width='4'></svg>", "SVG"),
        (b"<!DOCTYPE html><html><svg/></html>", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x20ftypheic", "HEIC"),
        (encoded(picture(), "ICO"), "in none of the formats"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "in none of the formats"),
        (PNG[:60], "damaged"),
        (PNG[:-40], "damaged"),
        (encoded(picture(), "JPEG")[:-100], "damaged"),
        (png_header(100, 100), "damaged"),
        (b"<!-- --><!---->" * 100, "in none of the formats"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, data: bytes, word: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(data)
    assert word in refused(data)
    message = refused(path)
    assert word in message and str(path) in message


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.png")
    assert "folder" in refused(str(tmp_path))
    assert "no path" in refused("a\0b.png")
    assert "empty" in refused("")
    assert len(refused("x" * 10_000)) < 400
    assert refused(3).endswith("URL, bytes or a PIL image")
    assert "no pixels" in refused(Image.new("RGB", (0, 4)))


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:image/png;base64",
        "data:,",
        "data:image/png;base64,@@@",
        "data:image/png;base64,AAAAA",
        "data:image/png,\udc80",
    ],
)
def test_data_urls_that_cannot_be_read(url: str) -> None:
    assert "in the data URL" in refused(url)


def test_data_urls_as_people_write_them() -> None:
    code = base64.b64encode(PNG).decode()
    percent = "".join(f"%{byte:02X}" for byte in PNG)
    for url in (
        f"DATA:image/png;charset=x;BASE64,{code.rstrip('=')}",
        f"data:image/png;base64,{code[:40]}\n {code[40:]}",
        f"data:;base64,{code.replace('+', '%2B').replace('/', '%2F')}",
        f"data:image/png,{percent}",
    ):
        assert load_image(url) == load_image(PNG)


# Damaged files: every outcome is an image or an ImageError.
FILES = [
    encoded(picture(12, 9), "PNG"),
    encoded(picture(12, 9).convert("P"), "PNG", transparency=0),
    encoded(picture(12, 9), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"),
    encoded(picture(12, 9), "GIF"),
    encoded(picture(12, 9), "WEBP"),
    encoded(picture(12, 9), "BMP"),
    encoded(picture(12, 9), "TIFF", compression="tiff_lzw"),
]


def survives(data: bytes) -> None:
    try:
        image = load_image(data, limits=ImageLimits(max_pixels=1_000_000))
    except ImageError:
        return
    assert image.pil.mode == "RGB"


@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(FILES), st.integers(0, 2**32), st.integers(1, 8), st.booleans())
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files(data: bytes, seed: int, flips: int, cut: bool) -> None:
    rng = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(flips):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    survives(bytes(damaged[: rng.randrange(len(damaged))] if cut else damaged))


@given(st.sampled_from([b"", *[data[:8] for data in FILES]]), st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes(head: bytes, data: bytes) -> None:
    survives(head + data)


# The network, on a server of our own.


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/cubes.png":
            self.answer(200, PNG)
        elif path == "/hop":
            left = int(query)
            self.answer(302, b"", Location=f"/hop?{left - 1}" if left else "/cubes.png")
        elif path == "/to":
            self.answer(302, b"", Location=query)
        elif path == "/big":
            self.send_response(200)
            self.end_headers()
            while True:  # no length is told, and there is no end
                self.wfile.write(b"\0" * 10_000)
        elif path == "/slow":
            for _ in range(100):
                self.wfile.write(b"H")
                self.wfile.flush()
                if stop.wait(0.1):
                    return
        elif path == "/host":
            self.answer(200, self.headers["Host"].encode())
        elif path == "/page":
            self.answer(200, b"<!doctype html>")
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


stop = threading.Event()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        assert isinstance(sys.exception(), OSError)  # the client has gone


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        stop.set()
        running.shutdown()
        thread.join()


def test_a_picture_from_the_web(server: str) -> None:
    image = load_image(f"{server}/cubes.png?key=secret#x", allow_private_hosts=True)
    assert image == load_image(PNG)
    assert image.name == f"{server}/cubes.png"


async def test_a_picture_from_the_web_inside_a_running_loop(server: str) -> None:
    assert load_image(f"{server}/cubes.png", allow_private_hosts=True) == load_image(PNG)


def test_redirects(server: str) -> None:
    assert load_image(f"{server}/hop?4", allow_private_hosts=True) == load_image(PNG)
    assert "more than 5 times" in refused(f"{server}/hop?5", allow_private_hosts=True)
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/", "gopher://x"):
        assert "http://" in refused(f"{server}/to?{target}", allow_private_hosts=True)


@pytest.mark.parametrize(
    ("path", "word"), [("none", "404"), ("page", "web page"), ("big", "MB"), ("slow", "seconds")]
)
def test_what_servers_do(server: str, path: str, word: str) -> None:
    limits = ImageLimits(max_bytes=100_000, max_seconds=0.5 if path == "slow" else 20)
    message = refused(f"{server}/{path}?key=secret", limits=limits, allow_private_hosts=True)
    assert word in message and "secret" not in message and f"{server}/{path}" in message


def test_a_host_that_does_not_listen() -> None:
    assert "connection failed" in refused("http://127.0.0.1:1/x.png", allow_private_hosts=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://localhost/",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://172.16.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[ff02::1]/",
    ],
)
def test_private_hosts_are_refused(url: str) -> None:
    assert "private or reserved" in refused(url)


def test_public_addresses() -> None:
    for address in ("93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert download.is_public(address)


@pytest.mark.parametrize(
    "url", ["ftp://a/b.png", "file:///etc/passwd", "http://", "http:///x", "https://[::1/x"]
)
def test_addresses_that_are_none(url: str) -> None:
    assert refused(url)


def test_the_password_in_an_address_is_not_repeated(server: str) -> None:
    url = server.replace("http://", "http://user:secret@")
    assert "secret" not in refused(f"{url}/none", allow_private_hosts=True)
    assert "secret" not in load_image(f"{url}/cubes.png", allow_private_hosts=True).name


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Make each look-up of a host give the next of the answers; the hosts asked for are returned."""
    asked: list[str] = []

    def look_up(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in answers[len(asked) - 1]]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    return asked


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["93.184.215.14", "127.0.0.1"])
    assert "private or reserved" in refused("http://example.test/x.png")


def test_a_look_up_that_hangs_does_not_outlast_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answered.wait(20))
    started = time.monotonic()
    assert "within 0.3 seconds" in refused("http://example.test/x.png", limits=ImageLimits(max_seconds=0.3))
    assert time.monotonic() - started < 5
    answered.set()


def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    assert "example.test is not known" in refused("http://example.test/x.png")


def test_the_connection_goes_to_the_address_that_was_checked(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.rpartition(":")[2]
    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.1")
    asked = resolve_to(monkeypatch, ["127.0.0.1"])
    body = download.download(f"http://example.test:{port}/host", max_bytes=100, max_seconds=20)
    assert body.decode() == f"example.test:{port}"
    assert asked == ["example.test"]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_public_host_may_not_redirect_into_the_private_network(
    server: str, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    port = server.rpartition(":")[2]
    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.1")
    resolve_to(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    message = refused(f"http://example.test:{port}/to?http://inside.test/x", allow_private_hosts=allowed)
    assert "inside.test is in a private" in message


def test_another_address_is_tried_if_the_first_does_not_answer(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.rpartition(":")[2]
    resolve_to(monkeypatch, ["::1", "127.0.0.1"])
    image = load_image(f"http://example.test:{port}/cubes.png", allow_private_hosts=True)
    assert image == load_image(PNG)
