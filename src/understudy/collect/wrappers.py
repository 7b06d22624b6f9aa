"""What gateways and tracers wrap an exchange in, beside the services' own forms and Langfuse.

bedrock         Amazon Bedrock's model invocation logs, of InvokeModel and Converse
                (docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html)
langsmith       runs of LangSmith: `run_type`, `inputs`, `outputs`
                (docs.smith.langchain.com/reference/data_formats/run_data_format)
tensorzero      inferences of TensorZero: `function_name`, `variant_name`, `input`, `output`
                (tensorzero.com/docs/gateway/data-model)
opentelemetry   spans of the GenAI conventions (collect/opentelemetry.py)
LiteLLM, Helicone, OpenPipe and Portkey keep a service's request and response under names that
services/providers/log.py knows.
"""

from collections.abc import Sequence
from typing import Any

from understudy.collect import langfuse, opentelemetry
from understudy.collect.langfuse import loaded
from understudy.data.rejects import NotWanted
from understudy.services.providers import dialogue, log
from understudy.services.providers.log import Dialect, LoggedExchange, Values


def name_of(values: Values) -> str | None:
    """Return the wrapper's name; None where there is none."""
    if values.get("schemaType") == "ModelInvocationLog":
        return "bedrock"
    if "run_type" in values and "inputs" in values:
        return "langsmith"
    if {"function_name", "variant_name", "input", "output"} <= values.keys():
        return "tensorzero"
    is_span = "spanId" in values and "attributes" in values
    return "opentelemetry" if is_span or opentelemetry.is_traced(values) else None


def bedrock(values: Values, dialects: Sequence[Dialect]) -> LoggedExchange:
    """Return the exchange of an invocation, whose bodies are those of the model's own API."""
    if values.get("errorCode"):
        raise NotWanted(log.FAILED)
    asked = _below(values, "input", "inputBodyJson")
    made = _below(values, "output", "outputBodyJson")
    if not isinstance(asked, dict) or made is None:
        raise NotWanted("a body that is kept elsewhere")  # beyond 100 KB it goes to S3
    if isinstance(made, dict) and "output" in made and "stopReason" in made:
        made = _of_converse(made)
    asked = {"model": values.get("modelId")} | asked
    whole = {"request": asked, "response": made, **_facts(values)}
    asks = next((dialect for dialect in dialects if dialect.asks(asked)), None)
    if asks is None:
        raise NotWanted("a request of a model whose form is not known")
    parts = [(log.unwrap(whole, dialect), dialect) for dialect in (asks, *dialects)]
    answered = next((part for part in parts if part[0].bodies), parts[0])
    return log.join([(parts[0][0]._replace(bodies=[]), asks), answered])


def _of_converse(made: Values) -> Values:
    """A response of Converse as Anthropic's, whose reasons for the end it shares."""
    blocks = []
    for block in dialogue.listed(_below(made, "output", "message", "content"), "content"):
        block = dialogue.mapping(block, "a block")
        if "text" in block:
            blocks.append({"type": "text", "text": block["text"]})
        elif isinstance(block.get("toolUse"), dict):
            blocks.append({"type": "tool_use"} | block["toolUse"])
        elif "reasoningContent" not in block:
            blocks.append({"type": "other"})
    ends = {"content_filtered": "refusal", "guardrail_intervened": "refusal"}
    end = str(made["stopReason"])
    return {"type": "message", "content": blocks, "stop_reason": ends.get(end, end)}


def langsmith(values: Values, dialects: Sequence[Dialect]) -> LoggedExchange:
    """Return the exchange of a run of a model."""
    if values.get("run_type") != "llm":
        raise NotWanted("not a generation but a step around it")
    if values.get("error"):
        raise NotWanted(log.FAILED)
    inputs = loaded(values.get("inputs"))
    if isinstance(inputs, dict) and isinstance(inputs.get("prompts"), list):
        inputs = "\n\n".join(map(str, inputs["prompts"]))
    invoked = _below(values, "extra", "invocation_params")
    names = ("model", "model_name", "ls_model_name")
    facts = [fact for fact in (invoked, _below(values, "extra", "metadata")) if fact]
    model = dialogue.first_text(fact.get(name) for fact in facts for name in names)
    return _traced(values, inputs, values.get("outputs"), model, dialects)


def tensorzero(values: Values, dialects: Sequence[Dialect]) -> LoggedExchange:
    """Return the exchange of an inference; of a JSON function, the text before it was parsed."""
    made = loaded(values.get("output"))
    if isinstance(made, dict) and "parsed" in made:
        if not isinstance(made.get("raw"), str):
            raise NotWanted("without input or output")
        made = made["raw"]
    return _traced(values, values.get("input"), made, None, dialects)


def spans(values: Values, dialects: Sequence[Dialect]) -> LoggedExchange:
    """Return the exchange of a span of OpenTelemetry."""
    said, span = opentelemetry.heard(values), opentelemetry.attributes(values)
    opentelemetry.check(values, said)
    model = dialogue.first_text(
        [span.get("gen_ai.response.model"), span.get("gen_ai.request.model")]
    )
    return _traced(values, said.asked, said.made, model, dialects, span)


def _traced(
    values: Values,
    asked: Any,
    made: Any,
    model: str | None,
    dialects: Sequence[Dialect],
    *facts: Values,
) -> LoggedExchange:
    if loaded(asked) in (None, "", [], {}) or loaded(made) in (None, "", [], {}):
        raise NotWanted("without input or output")
    return langfuse.whole(asked, made, model, (values, *facts), dialects)


def _facts(values: Values) -> Values:
    """What stands beside the bodies."""
    return {name: value for name, value in values.items() if name not in ("input", "output")}


def _below(values: Any, *names: str) -> Any:
    for name in names:
        values = loaded(values).get(name) if isinstance(loaded(values), dict) else None
    return values
