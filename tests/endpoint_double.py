"""An OpenAI-compatible server with a scripted model behind it, for tests of what speaks to servers.

Speaks HTTP over real sockets, in a thread of its own. Prompt format, reports and failures are set.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from llava_cot.core.question import load_image
from llava_cot.errors import ModelError
from llava_cot.models.base import Continuation, Message, Prompt, Sampling
from llava_cot.models.endpoint.prompts import GO_ON, ONLY_PART
from llava_cot.models.scripted import _WORD, ScriptedModel

Fault = Literal[
    *("429", "500", "503", "400", "401", "402", "403", "404", "break", "cut", "slow", "garbage", "html"),
    # A body with an error of its own.
    *("quota", "flagged", "no model", "error in 200"),
    # What is wrong with the choices of a reply, or unusual.
    *("error", "aborted", "filter", "refusal", "refusal part", "tools", "empty", "parts", "odd"),
    # Streams that hold other events, or are none.
    *("ping", "unstreamed"),
]
LINE = "amber birch cedar delta ember fern"
_OPEN = {"continue_final_message", "add_generation_prompt"}
_KEEP = {"include_stop_str_in_output", "no_stop_trim"}
_SCHEMA_FIELDS = {"response_format", "structured_outputs", "guided_json"}
_PROMPT_LOGPROBS = {"prompt_logprobs"}
_OPTIONS = {"top_k", "min_p", "repetition_penalty", "repeat_penalty"}


class Double:
    """A server on a free port of this machine, running between `with` and its end.

    `stops` is what becomes of a stop string: it is kept on request, named, or silently cut off. `strict`
    refuses fields that OpenAI does not have. `options` are the sampling fields that it has, and checks. Of
    the fields for a JSON schema, those in `schema_fields` are obeyed (by the script, once capabilities are
    found out) and the others ignored, or refused. `refuses` has a status and a message for fields (joined by
    "+") that are refused where a request has all of them. `limit` is its only name for the token limit, of
    which fewer than `least` are refused, and with fewer than `thinks` the model does not begin its answer.
    `parser` is the field in which a reasoning parser puts the script's text up to `</think>`, "" for one that
    leaves it in the text, None for a model that does not think; `inside` tells whether the chat template
    keeps a thought that was begun. `faults` are what the next chat requests meet, in turn.
    """

    def __init__(
        self,
        model: ScriptedModel,
        way: Literal["continue", "trailing", "none"] = "continue",
        *,
        stops: Literal["kept", "named", "silent"] = "kept",
        many: bool = True,
        logprobs: bool = True,
        prompt_logprobs: bool = False,
        strict: bool = False,
        key: str | None = None,
        models: Sequence[str] = ("scripted",),
        owner: str = "someone",
        wait: str | None = "0",
        schema_fields: Sequence[str] = (),
        refuses_schemas: bool = False,
        options: Sequence[str] = (),
        refuses: Mapping[str, tuple[int, str]] | None = None,
        limit: Literal["max_tokens", "max_completion_tokens"] | None = None,
        least: int = 0,
        thinks: int = 0,
        parser: Literal["reasoning", "reasoning_content", ""] | None = None,
        inside: bool = True,
    ) -> None:
        self.parser, self.inside, self.prompt_logprobs = parser, inside, prompt_logprobs
        self.refuses, self.limit, self.least, self.thinks = refuses or {}, limit, least, thinks
        self.options = options
        self.schema_fields, self.refuses_schemas = schema_fields, refuses_schemas
        self.model, self.way, self.stops, self.many, self.logprobs = model, way, stops, many, logprobs
        self.strict, self.key, self.models, self.owner, self.wait = strict, key, models, owner, wait
        self.faults: deque[Fault] = deque()
        # What a chat request gets, by its fields: all that the connection sends, which is closed then.
        self.lie: Callable[[dict[str, Any]], bytes] | None = None
        self.lists = True  # whether the list of models may be read
        self.bodies: list[dict[str, Any]] = []
        self.usages: list[dict[str, int]] = []  # the usage of every reply
        self.broken_off = 0  # requests whose client went away
        self.connections = 0
        self.at_once = self.most_at_once = 0
        self.delay = 0.0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Double:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**24)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def die(self) -> None:
        """Close all connections, in the middle of whatever is under way, and take no new ones."""

        async def end() -> None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()

    def come_back(self) -> None:
        """Listen again, at the same address."""
        listening = asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=2**24)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while head := await _head(reader):
                line, headers = head
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    await self._answer(line.split()[1], headers, body, reader, writer)
                finally:
                    self.at_once -= 1
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.broken_off += 1
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self,
        path: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        given = headers.get("authorization", "")
        if self.key is not None and given != f"Bearer {self.key}":
            return await _send(writer, 401, _error(f"Incorrect API key provided: {given}"))
        if path == "/v1/models" and not self.lists:
            return await _send(writer, 403, _error("This key may not list models."))
        if path == "/v1/models":
            data = [{"id": name, "object": "model", "owned_by": self.owner} for name in self.models]
            return await _send(writer, 200, {"object": "list", "data": data})
        if path != "/v1/chat/completions":
            return await _send(writer, 404, {"detail": "Not Found"})
        fields = json.loads(body)
        self.bodies.append(fields)
        if self.lie is not None:
            writer.write(self.lie(fields))
            await writer.drain()
            return writer.close()
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.isdigit():
            extra = {"Retry-After": self.wait} if fault == "429" and self.wait is not None else {}
            return await _send(writer, int(fault), _error(f"made to fail with {fault}; {given}"), extra)
        if fault in _BODIES:
            status, error = _BODIES[fault]
            return await _send(writer, status, {"error": error, "choices": None})
        if fault == "break":
            return writer.transport.abort()
        if fault in ("garbage", "html"):
            return await _send(writer, 200, '{"choices": [' if fault == "garbage" else "<html>busy</html>")
        seconds = 3600.0 if fault == "slow" else self.delay
        if seconds:
            gone = asyncio.create_task(reader.read(1))
            done, _ = await asyncio.wait({gone}, timeout=seconds)
            if done:
                raise ConnectionResetError
            gone.cancel()
        if len(fields.get("stop", ())) > 4:
            return await _send(writer, 400, _error("List should have at most 4 items"))
        if fields.get("n", 1) > 1 and fields.get("temperature") == 0:
            return await _send(writer, 400, _error("n must be 1 when using greedy sampling"))
        for names, (status, message) in self.refuses.items():
            if {*names.split("+")} <= {*fields}:
                return await _send(writer, status, _error(message))
        try:
            reply = await self._reply(fields)
        except ModelError as error:
            return await _send(writer, 400, _error(str(error)))
        if writer.is_closing():
            raise ConnectionResetError
        self.usages.append(reply["usage"])
        if fault in _SPOILT:
            _spoil(reply, fault)
        if fields.get("stream") and fault != "unstreamed":
            await self._stream(writer, reply, cut_off=fault == "cut", ping=fault == "ping")
        else:
            await _send(writer, 200, reply, cut_off=fault == "cut")

    async def _reply(self, fields: dict[str, Any]) -> dict[str, Any]:
        unknown = (_OPEN | _KEEP | _OPTIONS - set(self.options) | _PROMPT_LOGPROBS) & set(fields)
        if any(not isinstance(fields.get(name, 0), int | float) for name in self.options):
            raise ModelError("Input should be a valid number")
        if self.strict and unknown:
            raise ModelError(f"Unrecognized request arguments: {', '.join(sorted(unknown))}")
        schemas = _SCHEMA_FIELDS & set(fields)
        if self.refuses_schemas and not schemas <= set(self.schema_fields):
            raise ModelError(f"{', '.join(sorted(schemas))} is not supported")
        if fields.get("logprobs") and not self.logprobs:
            raise ModelError("logprobs are not supported")
        prompt, read = self._prompt(fields)
        n = fields.get("n", 1) if self.many else 1
        stops = tuple(fields.get("stop", ()))
        [limit] = {"max_tokens", "max_completion_tokens"} & set(fields)
        if self.limit not in (None, limit):
            raise ModelError(f"'{limit}' is not supported with this model. Use '{self.limit}' instead.")
        if fields[limit] < self.least:
            raise ModelError(f"Invalid '{limit}': expected a value of at least {self.least}.")
        sampling = Sampling(max_tokens=fields[limit], stop=stops, seed=fields.get("seed", 0))
        if prompt.messages[-1].text.startswith("Copy this line"):
            line = '{"tree": "amber"}' if schemas & set(self.schema_fields) else LINE
            if self.parser is not None:
                line = f"The line is: {LINE}\n</think>\n\n{line}"
            copying = ScriptedModel(lambda prompt, rng: line[len(prompt.prefix) :])
            samples = await copying.sample(prompt, n, sampling)
        else:
            samples = await self.model.sample(prompt, n, sampling)
        if fields[limit] < self.thinks:
            samples = [replace(sample, text="", finish="length") for sample in samples]
        choices = [await self._choice(i, sample, prompt, fields) for i, sample in enumerate(samples)]
        written = sum(sample.completion_tokens for sample in samples)
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        reply = {"object": "chat.completion", "choices": choices, "usage": usage}
        if self.prompt_logprobs and fields.get("prompt_logprobs") == 0:
            reply["prompt_logprobs"] = await self._of_prompt(prompt, read)
        return reply

    async def _of_prompt(self, prompt: Prompt, read: int) -> list[Any]:
        """The log-probability of each word that was read, as vLLM gives it."""
        words = _WORD.findall(prompt.prefix)
        before = ["".join(words[:at]) for at in range(len(words))]
        found = [
            (await self.model.choose(replace(prompt, prefix=start), [word]))[0]
            for start, word in zip(before, words, strict=True)
        ]
        numbers = [-9.0] * (read - len(words) - 1) + found
        entries = [{str(at): {"logprob": x, "rank": 1}} for at, x in enumerate(numbers)]
        return [None, *entries]

    def _prompt(self, fields: dict[str, Any]) -> tuple[Prompt, int]:
        """The prompt of the model behind, and its length in tokens."""
        turns = [_message(turn) for turn in fields["messages"]]
        read = self.model.count_tokens(Prompt(tuple(turns)))
        prefix = ""
        if turns[-1].role == "assistant":
            opened = fields.get("continue_final_message") and not fields.get("add_generation_prompt", True)
            answer = turns.pop()
            if self.way == "trailing" or (self.way == "continue" and opened):
                prefix = answer.text
        elif self.way == "none" and turns[-1].text.startswith(GO_ON):
            prefix = turns[-2].text
            turns = turns[:-2]
        thinking = None if self.parser is None else ("<think>", "</think>")
        if self.parser is not None and prefix.startswith("<think>\n"):
            prefix = prefix.removeprefix("<think>\n") if self.inside else ""
        last = turns[-1]
        text = last.text.split(f"\n\n{ONLY_PART}")[0]
        return Prompt((*turns[:-1], Message(last.role, text, last.images)), prefix, None, thinking), read

    async def _choice(
        self, index: int, sample: Continuation, prompt: Prompt, fields: dict[str, Any]
    ) -> dict[str, Any]:
        text, named = sample.text, None
        if sample.finish == "stop":
            stop = next(s for s in fields["stop"] if text.endswith(s.rstrip()))
            bare = text[: len(text) - len(stop.rstrip())]
            included = self.stops == "kept" and fields.get("include_stop_str_in_output")
            text, named = bare + (stop if included else ""), stop
        if self.way == "none":
            text = text.lstrip()  # a turn of its own
        thought = {}
        if self.parser:  # as that of DeepSeek-R1: what has no closing tag is all thinking
            thought[self.parser], _, text = text.partition("</think>")
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": text} | thought,
            "finish_reason": "length" if sample.finish == "length" else "stop",
        }
        if self.stops == "named":
            choice["matched_stop"] = named
        if fields.get("logprobs"):
            words = [*_WORD.findall(sample.text), *([""] if sample.finish == "eos" else [])]
            content = [{"token": word, "logprob": -float(len(word))} for word in words]
            if fields.get("top_logprobs"):
                options = (" 1", " 2")
                likely = await self.model.choose(prompt, options)
                top = [{"token": o, "logprob": x} for o, x in zip(options, likely, strict=True)]
                content = [token | {"top_logprobs": top} for token in content]
            choice["logprobs"] = {"content": content}
        return choice

    async def _stream(
        self, writer: asyncio.StreamWriter, reply: dict[str, Any], cut_off: bool, ping: bool
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        words: list[str] = []
        chunks: list[dict[str, Any]] = []
        for choice in reply["choices"]:
            message = choice.pop("message")
            content, logprobs = message.pop("content"), choice.pop("logprobs", None)
            del message["role"]
            thought = _WORD.findall(message.pop(self.parser, "")) if self.parser else []
            chunks += [{"choices": [{"index": 0, "delta": {self.parser: word}}]} for word in thought]
            words = _WORD.findall(content) if isinstance(content, str) else []
            chunks += [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
            if isinstance(content, list):
                chunks += [{"choices": [{"index": 0, "delta": {"content": [part]}}]} for part in content]
            errors = {"error": reply["error"]} if "error" in reply else {}
            chunks.append({"choices": [choice | {"delta": message, "logprobs": logprobs}], **errors})
        chunks.append({"choices": [], "usage": reply["usage"]})
        for number, chunk in enumerate(chunks):
            if cut_off and number == len(words) // 2:
                writer.transport.abort()
                return
            if ping:
                _chunk(writer, ': waiting\n\nevent: ping\ndata: {"type": "ping"}\n\n')
            _chunk(writer, f"data: {json.dumps(chunk)}\n\n")
            await writer.drain()
            await asyncio.sleep(0)
        _chunk(writer, "data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    lines: list[str] = []
    while (line := (await reader.readline()).decode()) not in ("", "\r\n"):
        lines.append(line.rstrip("\r\n"))
    pairs = (line.split(": ", 1) for line in lines[1:])
    return (lines[0], {name.lower(): value for name, value in pairs}) if lines else None


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: object,
    extra: dict[str, str] | None = None,
    cut_off: bool = False,
) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} | (extra or {})
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + (data[: len(data) // 2] if cut_off else data))
    await writer.drain()
    if cut_off:
        writer.close()


def _chunk(writer: asyncio.StreamWriter, text: str) -> None:
    data = text.encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "double", "code": None}}


_BODIES: dict[str | None, tuple[int, dict[str, Any]]] = {
    "quota": (
        429,
        {"message": "You exceeded your current quota, please check your plan.", "code": "insufficient_quota"},
    ),
    "flagged": (400, {"message": "The prompt triggered a filter.", "code": "content_filter"}),
    "no model": (404, {"message": "The model 'big' does not exist.", "code": "model_not_found"}),
    "error in 200": (200, {"message": "Provider returned error", "code": 429}),
}
_SPOILT: dict[str | None, dict[str, Any]] = {
    "error": {"finish_reason": "error"},
    "aborted": {"finish_reason": "abort"},
    "odd": {"finish_reason": "moved"},
    "filter": {"finish_reason": "content_filter"},
    "refusal": {},
    "refusal part": {},
    "tools": {"finish_reason": "tool_calls"},
    "empty": {},
    "parts": {},
}


def _spoil(reply: dict[str, Any], fault: str | None) -> None:
    """Make the choices of a reply what a fault says."""
    for choice in reply["choices"]:
        choice |= _SPOILT[fault]
        message = choice["message"]
        if fault == "refusal":
            message |= {"content": None, "refusal": "I'm sorry, I can't help."}
        elif fault == "refusal part":
            message["content"] = [{"type": "refusal", "refusal": "I'm sorry, I can't help."}]
        elif fault in ("filter", "tools"):
            message["content"] = None
        elif fault == "parts":
            words = _WORD.findall(message["content"])
            message["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
            message["content"] += [{"type": "text", "text": word} for word in words]
    if fault == "empty":
        reply["choices"] = []
    if fault == "error":
        reply["error"] = {"code": 502, "message": "Provider disconnected"}


def _message(turn: dict[str, Any]) -> Message:
    content = turn["content"]
    if isinstance(content, str):
        return Message(turn["role"], content)
    images = [load_image(part["image_url"]["url"]) for part in content if part["type"] == "image_url"]
    texts = [part["text"] for part in content if part["type"] == "text"]
    return Message(turn["role"], "".join(texts), tuple(images))


def configure(tmp_path: Path, text: str) -> None:
    """Write the user's `endpoints.yaml`, in the folder that tests have for it."""
    folder = tmp_path / "config" / "llava-cot"
    folder.mkdir(parents=True)
    (folder / "endpoints.yaml").write_text(text)
