"""A local service that speaks the wire formats of OpenAI and Anthropic: each request gets the next
scripted answer. The real client libraries talk to it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

Script = Callable[["Seen"], Any]


@dataclass(frozen=True)
class Seen:
    """One request as the service saw it. `number`: how many assistant messages it brings."""

    kind: str
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def key(self) -> str:
        return self.headers.get("Idempotency-Key", "")

    @property
    def number(self) -> int:
        return sum(message["role"] == "assistant" for message in self.body["messages"])

    @property
    def text(self) -> str:
        return json.dumps(self.body)

    @property
    def tools(self) -> list[str]:
        found = self.body.get("tools") or []
        return [
            tool["function"]["name"] if self.kind == "openai" else tool["name"] for tool in found
        ]


def say(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, **more}


def call(tool: str, arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {"calls": [(tool, {} if arguments is None else arguments)], **more}


def answer(**output: Any) -> dict[str, Any]:
    """A structured answer, by the output tool."""
    return {"calls": [("final_answer", output)]}


def refuse(status: int, message: str = "no", **headers: str) -> Response:
    body = {"error": {"message": message, "type": "some_error", "code": "some_code"}}
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps(body), status, found, content_type="application/json")


def cut_off(seen: Seen, letters: int) -> Response:
    """An answer whose connection ends after so many letters."""
    given = say("A long answer of many words")
    body = (_openai if seen.kind == "openai" else _anthropic)(given, 1)
    is_stream = bool(seen.body.get("stream"))
    text = _streamed(body) if is_stream else json.dumps(body)
    kind = "text/event-stream" if is_stream else "application/json"
    headers = {"Content-Length": str(len(text))}
    assert letters < len(text)
    return Response(iter([text[:letters].encode()]), 200, headers, content_type=kind)


@dataclass
class Service:
    """`script` gets each request and returns an answer of the functions above, or a Response."""

    server: HTTPServer
    script: Script = lambda seen: say("ok")
    seen: list[Seen] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answers(self, *given: Any) -> None:
        """Each conversation gets these, by the number of its turn."""
        self.script = lambda seen: given[min(seen.number, len(given) - 1)]

    def in_order(self, *given: Any) -> None:
        """The requests get these, one after the other."""
        left = iter(given)
        self.script = lambda seen: next(left)

    def url(self, kind: str) -> str:
        return self.server.url_for("/v1" if kind == "openai" else "").rstrip("/")

    def settings(self, **more: Any) -> dict[str, Any]:
        """Providers for a configuration."""
        price = {"input": 1.0, "output": 2.0}
        return {
            kind: {
                "type": kind,
                "api_key": "sk-the-key",
                "api_endpoint": self.url(kind),
                "model": model,
                "price": price,
            }
            | more
            for kind, model in (("openai", "gpt-4o-mini"), ("anthropic", "claude-opus-4-8"))
        }

    def handle(self, kind: str) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:
            seen = Seen(kind, json.loads(request.get_data()), dict(request.headers))
            with self.lock:
                self.seen.append(seen)
            given = self.script(seen)
            if isinstance(given, Response):
                return given
            with self.lock:
                self.answered[seen.key] += 1
            body = (_openai if kind == "openai" else _anthropic)(given, len(self.seen))
            if seen.body.get("stream"):
                return Response(_streamed(body), content_type="text/event-stream")
            return Response(json.dumps(body), content_type="application/json")

        return respond


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given)


def _openai(given: dict[str, Any], number: int) -> dict[str, Any]:
    calls = [
        {
            "id": f"call_{number}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": _arguments(arguments)},
        }
        for index, (name, arguments) in enumerate(given.get("calls", ()))
    ]
    finish = given.get("finish") or ("tool_calls" if calls else "stop")
    message = {"role": "assistant", "content": given.get("text")}
    return {
        "id": f"x{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": message | ({"tool_calls": calls} if calls else {}),
            }
        ],
        "usage": {
            "prompt_tokens": given.get("tokens", 100),
            "completion_tokens": 10,
            "total_tokens": given.get("tokens", 100) + 10,
        },
    }


def _anthropic(given: dict[str, Any], number: int) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if given.get("text"):
        content.append({"type": "text", "text": given["text"]})
    for index, (name, arguments) in enumerate(given.get("calls", ())):
        content.append(
            {"type": "tool_use", "id": f"toolu_{number}_{index}", "name": name, "input": arguments}
        )
    stop = {"length": "max_tokens", None: "tool_use" if given.get("calls") else "end_turn"}
    return {
        "id": f"msg{number}",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-8",
        "content": content,
        "stop_reason": stop[given.get("finish")],
        "stop_sequence": None,
        "usage": {"input_tokens": given.get("tokens", 100), "output_tokens": 10},
    }


def _streamed(message: dict[str, Any]) -> str:
    """An Anthropic message as server-sent events."""
    begun = message | {"content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, delta = (
                {"type": "text", "text": ""},
                {"type": "text_delta", "text": block["text"]},
            )
        else:
            empty = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": _arguments(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": empty},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events += [
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 10}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)


@contextmanager
def service() -> Iterator[Service]:
    server = HTTPServer(host="127.0.0.1", threaded=True)
    server.start()
    try:
        made = Service(server)
        server.expect_request("/v1/chat/completions").respond_with_handler(made.handle("openai"))
        server.expect_request("/v1/messages").respond_with_handler(made.handle("anthropic"))
        yield made
    finally:
        server.stop()
