"""Which fields of a line are read, which are known and left aside; the others are named.

Only the line's own fields count: what a service writes inside its request or response is its
folder's affair. A field that a rule names (--rating, --group, …) is read.
"""

from functools import lru_cache

from understudy.collect.formats import SYSTEMS, TALKS_AT
from understudy.collect.rules import Rules
from understudy.data import formats
from understudy.services.providers.log import Values

_READ = frozenset(  # by the formats, wherever they stand
    (
        *("request", "response", "body", "params", "kwargs", "result", "chunk", "event", "data"),
        *("chunks", "events", "completion", "status_code", "status", "error", "type", "level"),
        *("custom_id", "request_id", "requestId", "key", "call_id", "id", "messages", "prompt"),
        *("instruction", "input", "output", "context", "history", "system", "response", "answer"),
        *("question", "conversations", "contents", "candidates", "choices", "content", "role"),
        *("model", "metadata", "instructions", "systemInstruction", "system_instruction", "text"),
        *("stop_reason", "delta", "message", "content_block", "index", "item", "output_index"),
        *("content_index", "licence", "license", "promptFeedback", "prompt_feedback"),
        *("modelVersion", "model_version", "responseId", "response_id", "previous_response_id"),
        *("conversation", "incomplete_details", "provided_model_name", "providedModelName"),
        *("internal_model_id", "internalModelId", "weight", "inputs", "outputs", "run_type"),
        *("extra", "attributes", "function_name", "variant_name", "schemaType", "errorCode"),
        *("request_body", "requestBody", "reqPayload", "response_body", "responseBody"),
        *("respPayload", "operation", "events", "eventName", "context", "train", "loss"),
    )
)
_ASIDE = frozenset(  # known, and no part of a conversation
    (
        # times, names, costs and counts
        *("created", "created_at", "createdAt", "updated_at", "updatedAt", "timestamp", "time"),
        *("start_time", "startTime", "end_time", "endTime", "completionStartTime", "ts", "date"),
        *("completion_start_time", "latency", "latency_ms", "duration", "duration_ms", "object"),
        *("timeToFirstToken", "time_to_first_token", "usage", "usageMetadata", "usage_metadata"),
        *("usageDetails", "usage_details", "costDetails", "cost_details", "cost", "total_cost"),
        *("providedCostDetails", "provided_cost_details", "provided_usage_details", "totalCost"),
        *("inputCost", "outputCost", "inputUsage", "outputUsage", "totalUsage", "total_tokens"),
        *("calculatedInputCost", "calculatedOutputCost", "calculatedTotalCost", "prompt_tokens"),
        *("completion_tokens", "input_tokens", "output_tokens", "token_count", "name", "version"),
        *("release", "environment", "tags", "source", "provider", "service", "host", "url"),
        *("method", "path", "endpoint", "headers", "kind", "stream", "public", "bookmarked"),
        *("traceId", "trace_id", "projectId", "project_id", "parentObservationId", "session"),
        *("parent_observation_id", "span_id", "spanId", "parent_id", "parentSpanId"),
        *("promptId", "promptName", "promptVersion", "prompt_id", "prompt_name"),
        *("prompt_version", "model_id", "modelId", "statusMessage", "status_message", "scores"),
        *(
            "schemaVersion",
            "accountId",
            "identity",
            "episode_id",
            "inference_params",
            "startTimeUnixNano",
        ),
        *("endTimeUnixNano", "tool_params", "processing_time_ms", "ttft_ms", "parent_run_id"),
        *("timeUnixNano", "observedTimeUnixNano", "severityNumber", "severityText"),
        *("droppedAttributesCount", "droppedEventsCount", "droppedLinksCount"),
        *("trace_state", "traceState", "resource", "scope", "links", "dotted_order", "serialized"),
        *("call_type", "response_cost", "model_group", "model_map_information", "api_base"),
        *("cache_hit", "cache_key", "saved_cache_cost", "request_tags", "hidden_params", "flags"),
        *("custom_llm_provider", "response_time", "error_str", "is_success", "ai_org", "ai_model"),
        *("cost_usd", "properties", "request_created_at", "response_created_at", "requestedAt"),
        *("receivedAt", "session_name", "child_run_ids", "feedback_stats", "prompt_cost"),
        *("completion_cost", "raw_request", "raw_response", "statusCode", "delay_ms"),
        *("user_agent", "ip", "region", "organization", "organization_id", "task", "split"),
        # of requests and responses that are the line itself
        *("temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "stop", "seed"),
        *("max_output_tokens", "n", "logprobs", "top_logprobs", "presence_penalty", "store"),
        *("frequency_penalty", "logit_bias", "response_format", "stream_options", "truncation"),
        *("parallel_tool_calls", "service_tier", "system_fingerprint", "stop_sequence"),
        *("stop_sequences", "anthropic_version", "generationConfig", "generation_config"),
        *("safetySettings", "safety_settings", "modelParameters", "model_parameters", "reasoning"),
        *("reasoning_effort", "thinking", "background", "sequence_number", "item_id", "verbosity"),
        *("max_tool_calls", "tool_usage", "obfuscation", "completed_at", "incomplete", "include"),
        *("prompt_cache_key", "prompt_cache_retention", "billing", "moderation", "refusal"),
    )
)


_OF_ROWS = frozenset(  # beside a conversation, in rows of a data set
    (
        *("id", "custom_id", "request_id", "requestId", "key", "call_id", "model", "metadata"),
        *("licence", "license", "status", "type", "created"),
    )
)


def beside(values: Values, name: str) -> list[str]:
    """Return the fields of a row of `messages` or `pairs` that only logs of services give meaning.

    `known` lets them pass, since a file may hold both.
    """
    places = (TALKS_AT,) if name == "messages" else (formats.PROMPTS, formats.RESPONSES)
    read = {
        next((one for one in names if not formats.is_missing(values.get(one))), "")
        for names in places
    }
    read |= {*SYSTEMS} if name == "messages" else {"input", "context", "history", "system"}
    return [
        field
        for field, value in values.items()
        if field not in read
        and field not in _OF_ROWS
        and (field in _READ or field in formats.RESPONSES)
        and not formats.is_missing(value)
    ]


@lru_cache(maxsize=64)
def known(groups: frozenset[str], rules: Rules, group: str | None) -> frozenset[str]:
    """Return the fields that need no word: read, deliberately left aside, or named by a rule."""
    usual = set(formats.PROMPTS) | set(formats.RESPONSES)
    return _READ | _ASIDE | groups | named(rules, group) | usual


@lru_cache(maxsize=64)
def named(rules: Rules, group: str | None) -> frozenset[str]:
    """Return the fields that the user's rules read."""
    paths = [rating.field for rating in rules.ratings] + [field for field, _ in rules.flags]
    paths += [rules.task_field[0]] if rules.task_field is not None else []
    paths += [group] if group is not None else []
    return frozenset(path.partition(".")[0] for path in paths)
