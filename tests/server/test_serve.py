"""`llava-cot serve` as a user runs it: refused options, answers, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import openai
import pytest
from command import COMMAND, ROOT, environment, refusal
from serving import ASK, PATIENCE, get, running, until

from llava_cot.server.api import listen


def test_a_taken_port_is_reported_before_a_model_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refusal("serve", "--port", port, "--model", "/no/such/folder")
    assert f"cannot listen on 127.0.0.1, port {port}" in said and "choose another" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port", "99999"), "cannot listen on 127.0.0.1, port 99999"),
        (("--host", "no.such.host.invalid"), "cannot listen on no.such.host.invalid"),
        (("--api-key-env", "LLAVA_COT_NO_KEY"), "'LLAVA_COT_NO_KEY' has no key"),
        (("--at-once", "0"), "give at least 1"),
        (("--max-waiting", "-1"), "give 0 or more"),
        (("--time-limit", "0"), "give more than 0"),
        (("--time-limit", "nan"), "give more than 0"),
        (("--format", "a,a"), "twice"),
        (("--served-model-name", "two words"), "--served-model-name is"),
        (("--port", "0", "--model", "/no/such/folder"), "/no/such/folder"),
    ],
)
def test_what_cannot_be_served_is_refused(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal("serve", *arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_sigterm_finishes_what_is_running(stream: bool) -> None:
    with running("--api-key-env", "SECRET", SECRET="x1") as (process, url), ThreadPoolExecutor(1) as pool:

        def ask() -> str:
            with openai.OpenAI(base_url=url, api_key="x1", max_retries=0) as client:
                reply = client.chat.completions.create(
                    model="mini:majority-64",
                    messages=ASK,
                    seed=1,
                    max_tokens=300,  # without a picture, mini may come to no end, and to no conclusion
                    stream=stream,
                    extra_body={"raw": True},
                )
                if not stream:
                    return reply.choices[0].message.content
                return "".join(c.choices[0].delta.content or "" for c in reply if c.choices)

        root = url.removesuffix("/v1")
        answer = pool.submit(ask)
        until(lambda: "llava_cot_running 1.0" in get(f"{root}/metrics").text or answer.done())
        assert not answer.done()
        process.send_signal(signal.SIGTERM)
        assert answer.result(timeout=PATIENCE)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (0, b"", b"")


def test_an_interrupt_ends_it_quietly_under_another_name() -> None:
    with running("--served-model-name", "org/other") as (process, url):
        until(lambda: get(f"{url}/models").status_code == 200)
        assert get(f"{url}/models").json()["data"][1]["id"] == "org/other:single"
        assert get(f"{url}/models/org/other:best-of-3").json()["id"] == "org/other:best-of-3"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (0, b"", b"")


def test_the_key_is_in_no_output() -> None:
    with running("--api-key-env", "SECRET", SECRET="hush-hush") as (process, url):
        for key in ("hush-hush", "wrong"):
            get(f"{url}/models", headers={"Authorization": f"Bearer {key}"})
        process.send_signal(signal.SIGTERM)
        assert b"hush-hush" not in b"".join(process.communicate(timeout=PATIENCE))


def test_without_the_extra_it_says_what_to_install(tmp_path: os.PathLike[str]) -> None:
    hidden = os.path.join(tmp_path, "fastapi.py")
    with open(hidden, "w", encoding="utf-8") as file:
        file.write("raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", str(ROOT / "src"))])
    done = subprocess.run(
        [*COMMAND, "serve"], env=environment() | {"PYTHONPATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert (
        b"the server needs fastapi, which is not installed; in the clone, run: "
        b"pip install -c constraints.txt -e '.[serve]'" in done.stderr
    )


def test_no_part_of_a_reply_waits_for_the_client_to_confirm_another() -> None:
    with (
        closing(listen("127.0.0.1", 0)) as listening,
        closing(socket.create_connection(listening.getsockname())),
    ):
        accepted, _ = listening.accept()
        with closing(accepted):
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
