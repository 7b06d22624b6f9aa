"""OpenAI's chat completions: a body becomes a prompt, pieces become a response or chunks."""

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from understudy.config.serve import ServeConfig
from understudy.data.rejects import BadRow, NotWanted
from understudy.data.tools import calls_of, numbered
from understudy.errors import BadInput
from understudy.inference import DecodeRequest, Logprob
from understudy.models import load
from understudy.records import Message
from understudy.serve import Piece, fields, tools
from understudy.serve.fields import Rejected, event, refuse, token_bytes
from understudy.serve.model import Served
from understudy.serve.tools import AnswerReader, CallForm, ToolUse

# They would change the answer, but not with these values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **{"functions": ([],), "function_call": ("none", "auto")},
    **{"modalities": (["text"],), "repetition_penalty": (1,)},
}


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class Body(fields.Sampled):
    """The fields that are honoured; null is the same as absent."""

    asks_in: ClassVar[str] = "messages"

    messages: Annotated[list[_Message], Field(min_length=1, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[Any] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool = True
    response_format: dict[str, Any] | None = None

    def wanted(self) -> tuple[str, int | None]:
        name = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return name, self.max_completion_tokens or self.max_tokens

    @property
    def likeliest(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def chat(self) -> list[Message]:
        """The messages as rows have them; Rejected for calls and results that are none."""
        made: list[Message] = []
        ids: set[Any] = set()  # of calls
        for place, said in enumerate(self.messages):
            where = f"messages.{place}"
            if said.content is None and said.role != "assistant":
                refuse(f"{where}.content", f"{where}.content is missing")
            turn: Message = {"role": _role(said.role), "content": _text(said.content or "")}
            try:
                calls = calls_of({"tool_calls": said.tool_calls})
            except (BadRow, NotWanted) as error:
                refuse(where, f"{where}: {error}")
            if calls:
                turn["tool_calls"] = calls
                ids |= {call["id"] for call in calls}
            if said.role == "tool":
                if said.tool_call_id not in ids:
                    message = f"{where}.tool_call_id answers no call: {said.tool_call_id!r}"
                    refuse(f"{where}.tool_call_id", message)
                turn["tool_call_id"] = said.tool_call_id
            made.append(turn)
        try:
            return numbered(made)
        except NotWanted as error:
            refuse("messages", f"messages: {error}")

    def form(self) -> str | None:
        """The JSON schema that the answer must keep to, if one is asked for."""
        wanted = self.response_format or {"type": "text"}
        if wanted.get("type") == "text":
            return None
        if wanted.get("type") == "json_object":
            return '{"type": "object"}'
        told = wanted.get("json_schema")
        if wanted.get("type") != "json_schema" or not isinstance(told, dict):
            message = "response_format must be of type text, json_object or json_schema"
            refuse("response_format", f"{message}, the last with a json_schema")
        if not isinstance(told.get("schema"), dict):
            refuse("response_format", "response_format: json_schema.schema is no JSON schema")
        return json.dumps(told["schema"])


def parse(data: bytes, model: str, settings: ServeConfig) -> Body:
    """The body of a request; Rejected names what is wrong with it."""
    body = fields.parse(data, Body, _NEUTRAL, model, settings)
    if body.top_logprobs and not body.logprobs:
        refuse("top_logprobs", "top_logprobs needs logprobs=true")
    return body


@dataclass(frozen=True)
class ChatPrompt:
    """A chat as tokens, and the form of its answer."""

    ids: list[int]
    schema: str | None
    use: ToolUse
    form: CallForm


def prompt(body: Body, served: Served) -> ChatPrompt:
    """The prompt of a chat; Rejected where the chat template refuses it."""
    use = tools.tool_use(body.tools, body.tool_choice)
    schema, form = body.form(), tools.form_of(served.tokenizer)
    if schema is not None and use.choice == "auto":
        message = "response_format goes with tools only where tool_choice says whether to call one"
        refuse("response_format", message)
    messages = body.chat()
    try:
        if served.first is not None:  # what the model was judged with
            count = load.counter(served.tokenizer, use.tools)
            messages = served.first.before(messages, count)
        ids = load.chat_ids(
            served.tokenizer, messages, "", add_generation_prompt=True, tools=use.tools
        )
    except BadInput as error:
        why = str(error).partition(": ")[2]
        message = f"The chat template refuses the messages: {why}"
        raise Rejected(400, message, "messages") from None
    except (TypeError, ValueError) as error:  # lone surrogates
        raise Rejected(400, f"The messages are no valid text: {error}", "messages") from None
    if use.is_forced:
        schema = _schema_of(use, form)
        ids = ids + served.tokenizer.encode(form.prefix, add_special_tokens=False)
    return ChatPrompt(ids, schema, use, form)


def _schema_of(use: ToolUse, form: CallForm) -> str:
    try:
        return tools.schema_of(use, form)
    except RecursionError:
        refuse("tools", "the parameters of tools are nested too deeply")


def _role(role: str) -> str:
    return "system" if role == "developer" else role  # as OpenAI treats older models


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type")
            refuse("messages", f"a content part of type {kind!r} is not supported; send text")
    return "".join(part["text"] for part in content)


@dataclass
class ChatReply:
    """One response in the making: what all its parts share, and the tokens counted so far."""

    body: Body
    asked: DecodeRequest
    tokenizer: Any
    use: ToolUse
    form: CallForm
    completion_tokens: int = 0
    _readers: dict[int, AnswerReader] = field(default_factory=dict)
    _id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    _created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> dict[str, int]:
        """How many tokens the request took."""
        return fields.usage(len(self.asked.ids), self.completion_tokens)

    def whole(self, pieces: Iterable[Piece]) -> dict[str, Any]:
        """The chat completion of finished answers, one piece each."""
        choices = []
        for piece in sorted(pieces, key=lambda piece: piece.index):
            text, calls = self._read(piece)
            message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
            if calls:
                message |= {"content": text or None, "tool_calls": calls}
            choices.append(self._choice(piece, "message", message))
        own = {"prompt_token_ids": list(self.asked.ids)} if self.body.return_token_ids else {}
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage(), **own}

    def opening(self) -> list[str]:
        """The chunks before the first token."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [self._chunk(Piece(index), delta) for index in range(self.asked.n)]

    def chunk(self, piece: Piece) -> str:
        """A part of one answer."""
        text, calls = self._read(piece)
        delta: dict[str, Any] = {"content": text} if text else {}
        if calls:
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
        return self._chunk(piece, delta)

    def _read(self, piece: Piece) -> tuple[str, list[dict[str, Any]]]:
        reader = self._readers.get(piece.index)
        if reader is None:
            template = self.tokenizer.chat_template
            reader = self._readers[piece.index] = AnswerReader(self.use, self.form, template)
        text, calls = reader.add(piece.text, piece.finish is not None)
        return text, calls if self.body.parallel_tool_calls else calls[:1]

    def closing(self) -> str:
        """The usage, where it was asked for, and the end."""
        done = "data: [DONE]\n\n"
        if not self.body.includes_usage:
            return done
        last = {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()}
        return event(last) + done

    def _chunk(self, piece: Piece, delta: dict[str, Any]) -> str:
        chunk = self._head("chat.completion.chunk")
        chunk["choices"] = [self._choice(piece, "delta", delta)]
        if self.body.includes_usage:
            chunk["usage"] = None
        return event(chunk)

    def _head(self, kind: str) -> dict[str, Any]:
        head = {"id": self._id, "object": kind, "created": self._created}
        return {**head, "model": self.body.model}

    def _choice(self, piece: Piece, name: str, said: dict[str, Any]) -> dict[str, Any]:
        self.completion_tokens += len(piece.tokens)
        logprobs = None
        if self.asked.top_logprobs is not None and piece.tokens:
            content = [self._logprob(found) for found in piece.logprobs]
            logprobs = {"content": content, "refusal": None}
        choice = {"index": piece.index, name: said, "logprobs": logprobs}
        reader = self._readers.get(piece.index)
        choice["finish_reason"] = reader.finish(piece.finish) if reader else piece.finish
        return choice | ({"token_ids": piece.tokens} if self.body.return_token_ids else {})

    def _logprob(self, found: Logprob) -> dict[str, Any]:
        top = [self._token(token, value) for token, value in found.top]
        return {**self._token(found.token, found.logprob), "top_logprobs": top}

    def _token(self, token: int, value: float) -> dict[str, Any]:
        raw = token_bytes(self.tokenizer, token)
        text = raw.decode("utf-8", errors="replace")
        if self.body.return_tokens_as_token_ids:
            text = f"token_id:{token}"
        return {"token": text, "logprob": max(value, -9999.0), "bytes": list(raw)}
