"""Between our values and the library's. Imports the library: itself imported with the first
question."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelOverloadedError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    UserError,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from engine.agents.dialogue import Answer, Question, Turn, Usage, Wanted
from engine.agents.dialogue import Finish as FinishReason
from runners.agents.errors import ModelError

OUTPUT_TOOL = "final_answer"
LONGEST_REFUSAL = 500  # letters of a provider's own words
_TRANSIENT = (
    ModelRateLimitError, ModelUnavailableError, ModelOverloadedError, ModelServerError,
    ModelConnectionError, ModelTimeoutError,
)  # fmt: skip
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_FINISHES: Mapping[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_call": "tool_call",
    "error": "error",
}


async def request(model: Model, question: Question, timeout_s: float) -> ModelResponse:
    """Send the conversation; raises ModelError in place of everything the library raises."""
    settings = ModelSettings(
        timeout=timeout_s, max_retries=0, extra_headers={"Idempotency-Key": question.key}
    )
    if question.max_tokens is not None:
        settings["max_tokens"] = question.max_tokens
    if question.temperature is not None:
        settings["temperature"] = question.temperature
    try:
        return await model_request(
            model,
            messages_of(question),
            model_settings=settings,
            model_request_parameters=_parameters(question),
        )
    except ModelAPIError as error:
        raise _refused(error) from error
    # LookupError: an answer without any choice
    except (AgentRunError, UserError, ValueError, LookupError) as error:
        raise ModelError(f"the answer cannot be read: {_cut(str(error))}") from error


def _refused(error: ModelAPIError) -> ModelError:
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    is_transient = isinstance(error, _TRANSIENT) or status in _TRANSIENT_STATUS
    if isinstance(error, ModelQuotaExceededError):
        is_transient = False
    told = _words(error)
    begin = f"HTTP {status}" if status is not None else "no answer"
    return ModelError(
        f"{begin}: {told}", is_transient=is_transient, retry_after_s=error.retry_after
    )


def _words(error: ModelAPIError) -> str:
    body: Any = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        if message:
            return _cut(str(message))
    return _cut(str(body or error.message or type(error).__name__))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_REFUSAL else line[:LONGEST_REFUSAL] + "…"


def _parameters(question: Question) -> ModelRequestParameters:
    tools = [
        ToolDefinition(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=dict(tool.schema),
            strict=False,
        )
        for tool in question.tools
    ]
    if question.schema is None:
        return ModelRequestParameters(function_tools=tools)
    schema, told = dict(question.schema), "Gives the final answer and ends the conversation."
    return ModelRequestParameters(
        function_tools=tools,
        output_mode="auto",
        output_object=OutputObjectDefinition(json_schema=schema, name=OUTPUT_TOOL),
        output_tools=[
            ToolDefinition(
                name=OUTPUT_TOOL, description=told, parameters_json_schema=schema, kind="output"
            )
        ],
        allow_text_output=False,
    )


def messages_of(question: Question) -> list[ModelMessage]:
    """The conversation as the library has it: each answer as it came, calls with their results."""
    dialogue = question.dialogue
    system = [SystemPromptPart(dialogue.system)] if dialogue.system else []
    request = ModelRequest(parts=[*system, UserPromptPart(dialogue.prompt)])
    found: list[ModelMessage] = []
    for turn in dialogue.turns:
        if turn.answer is None:
            continue
        if turn.note:
            request.parts = [*request.parts, UserPromptPart(turn.note)]
        response = _response(turn)
        found += [request, response]
        request = ModelRequest(parts=_results(turn, response))
    if question.note:
        request.parts = [*request.parts, UserPromptPart(question.note)]
    return [*found, request]


def _response(turn: Turn) -> ModelResponse:
    answer = turn.answer
    assert answer is not None
    if answer.message is not None:
        (message,) = ModelMessagesTypeAdapter.validate_python([answer.message])
        assert isinstance(message, ModelResponse)
        return message
    calls = [ToolCallPart(call.tool, call.arguments, call.id) for call in answer.calls]
    return ModelResponse(parts=[*([TextPart(answer.text)] if answer.text else []), *calls])


def _results(turn: Turn, response: ModelResponse) -> list[Any]:
    """An answer to every call, as providers insist."""
    by_id = {call.id: call.result for call in turn.calls}
    return [
        ToolReturnPart(part.tool_name, by_id.get(part.tool_call_id, "not used"), part.tool_call_id)
        for part in response.parts
        if isinstance(part, ToolCallPart)
    ]


def finished(
    response: ModelResponse,
    question: Question,
    model_name: str,
    latency_s: float,
    cost: float | None,
) -> Answer:
    """The answer in our values."""
    texts = [part.content for part in response.parts if isinstance(part, TextPart)]
    wanted = [part for part in response.parts if isinstance(part, ToolCallPart)]
    final = next((part for part in wanted if part.tool_name == OUTPUT_TOOL), None)
    usage = response.usage
    return Answer(
        text="\n".join(texts),
        calls=tuple(
            Wanted(part.tool_call_id, part.tool_name, _arguments(part))
            for part in wanted
            if part is not final
        ),
        output=None if final is None else _arguments(final),
        has_output=final is not None and question.schema is not None,
        finish=_FINISHES.get(response.finish_reason, "other"),
        model=response.model_name or model_name,
        usage=Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, cost),
        latency_s=latency_s,
        message=ModelMessagesTypeAdapter.dump_python([response], mode="json")[0],
    )


def _arguments(part: ToolCallPart) -> Any:
    """The arguments as a mapping, or the text that is none."""
    if not isinstance(part.args, str):
        return part.args if part.args is not None else {}
    try:
        return json.loads(part.args or "{}")
    except ValueError:
        return part.args
