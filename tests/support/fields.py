"""Requests made of any of their fields, as strategies: of the right types, and spoiled.

Sources: OpenAI's API description 2.3.0, the types of Anthropic's client 2.14, and what servers add. Ranking is made of
the fields of all its dialects at once, as trillm takes them.
"""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]

text, number, flag = st.text(max_size=6), st.floats(-3, 3), st.booleans()
words = st.text(min_size=1, max_size=6)
count = st.integers(1, 30)
scalars = st.none() | flag | st.integers(-9, 9) | text | st.sampled_from([-(2**70), 2**70, 1e300, -0.5])
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2), max_leaves=6
)


def members(needed: Mapping[str, Strategy] | None = None, /, **optional: Strategy) -> Strategy:
    """An object; ``needed`` is always in it."""
    return st.fixed_dictionaries(dict(needed or {}), optional=optional)


def typed(kind: str, /, **needed: Strategy) -> Strategy:
    """An object that says of which type it is."""
    return st.fixed_dictionaries({"type": st.just(kind), **needed})


def one_of(*values: str) -> Strategy:
    return st.sampled_from(values)


def some(kind: Strategy, *, least: int = 0) -> Strategy:
    return st.lists(kind, min_size=least, max_size=2)


schema = st.just({"type": "object", "properties": {"city": {"type": "string"}}}) | st.just({})
effort = one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")
metadata = st.dictionaries(text, text, max_size=2)
stop = text | st.lists(text, max_size=4)
sampled = {
    "temperature": number, "top_p": number, "frequency_penalty": number, "presence_penalty": number, "seed": count,
    "logit_bias": st.dictionaries(text, count, max_size=2), "user": text, "n": st.integers(1, 3), "stop": stop,
}  # fmt: skip
kept = {
    "metadata": metadata, "store": flag, "service_tier": text, "safety_identifier": text, "prompt_cache_key": text,
    "prompt_cache_retention": text, "prompt_cache_options": members(mode=text), "moderation": anything,
}  # fmt: skip
#: What servers add.
added = {"top_k": count, "min_p": number, "chat_template_kwargs": anything, "keep_alive": text}

# ── chat completions, and completions ───────────────────────────────────────────────────────────────────────────

image = members({"url": text}, detail=one_of("auto", "low", "high", "original"))
parts = st.one_of(
    typed("text", text=text),
    typed("image_url", image_url=image | text),
    typed("input_audio", input_audio=members(data=text, format=text)),
    typed("file", file=members(file_data=text, file_id=text, filename=text)),
    typed("refusal", refusal=text),
)
function = members({"name": words}, description=text, parameters=schema, strict=flag)
called = members(name=text, arguments=text)
calls = some(typed("function", id=text, function=called))
messages = st.lists(
    members(
        {
            "role": one_of("developer", "system", "user", "assistant", "tool", "function"),
            "content": text | st.lists(parts, max_size=3) | st.none(),
        },
        name=text, tool_calls=calls, tool_call_id=text, reasoning=text, reasoning_content=text,
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip
CHAT = sampled | kept | added | {
    "audio": members(voice=text, format=text),
    "function_call": text | members(name=text),
    "functions": some(function),
    "logprobs": flag,
    "max_completion_tokens": count,
    "max_tokens": count,
    "modalities": st.lists(one_of("text", "audio")),
    "parallel_tool_calls": flag,
    "prediction": typed("content", content=text),
    "reasoning_effort": effort,
    "response_format": members(type=one_of("text", "json_object", "json_schema"), json_schema=anything),
    "stream": flag,
    "stream_options": members(include_usage=flag, include_obfuscation=flag),
    "tool_choice": one_of("auto", "none"),
    "tools": some(typed("function", function=function)),
    "top_logprobs": count,
    "verbosity": text,
    "web_search_options": anything,
}  # fmt: skip
COMPLETIONS = sampled | {
    "best_of": count, "echo": flag, "logprobs": count, "max_tokens": count, "stream": flag, "suffix": text,
    "stream_options": members(include_usage=flag),
}  # fmt: skip
prompts = words | some(words, least=1)

# ── embeddings and ranking ──────────────────────────────────────────────────────────────────────────────────────

inputs = words | st.lists(words, min_size=1, max_size=4)
EMBEDDINGS = {"dimensions": count, "encoding_format": one_of("float", "base64"), "user": text}
documents = st.lists(words | members({"text": words}), min_size=1, max_size=4)
texts = st.lists(words, min_size=1, max_size=4)
#: What a ranking needs: Cohere's and Jina's way, TEI's, and two of vLLM's scores.
RANKINGS = (
    {"query": words, "documents": documents},
    {"query": words, "texts": texts},
    {"queries": words, "documents": texts},
    {"text_1": words, "text_2": words | texts},
)
RERANK = {
    "top_n": count, "top_k": count, "return_documents": flag, "truncation": flag, "raw_scores": flag,
    "max_tokens_per_doc": count, "max_chunks_per_doc": count, "truncate": flag, "return_text": flag,
    "truncate_prompt_tokens": count, "priority": count, "user": text,
}  # fmt: skip

# ── responses ───────────────────────────────────────────────────────────────────────────────────────────────────

said = st.one_of(
    typed("input_text", text=text),
    typed("input_image", image_url=text, detail=one_of("auto", "low", "high", "original")),
    typed("input_file", file_data=text, filename=text),
    typed("input_audio", input_audio=members(data=text, format=text)),
)
answered = st.one_of(typed("output_text", text=text, annotations=st.just([])), typed("refusal", refusal=text))
items = st.lists(
    st.one_of(
        members({"role": one_of("user", "system", "developer"), "content": text | some(said)}),
        typed("message", role=st.just("assistant"), content=text | some(answered), status=text, id=text),
        typed("function_call", call_id=words, name=words, arguments=text, id=text),
        typed("function_call_output", call_id=words, output=text | some(said)),
        typed("reasoning", id=text, summary=some(typed("summary_text", text=text))),
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip
formats = st.one_of(typed("text"), typed("json_object"), typed("json_schema", name=words, schema=schema, strict=flag))
RESPONSES = kept | {
    "include": some(one_of("message.output_text.logprobs", "reasoning.encrypted_content")),
    "instructions": text,
    "max_output_tokens": count,
    "max_tool_calls": count,
    "parallel_tool_calls": flag,
    "reasoning": members(effort=effort, summary=one_of("auto", "concise", "detailed")),
    "stream": flag,
    "stream_options": members(include_obfuscation=flag),
    "temperature": number,
    "text": members(format=formats, verbosity=one_of("low", "medium", "high")),
    "tools": some(typed("function", name=words, parameters=schema, description=text, strict=flag)),
    "tool_choice": one_of("auto", "none"),
    "top_logprobs": count,
    "top_p": number,
    "truncation": one_of("auto", "disabled"),
    "user": text,
}
#: What only a server with a memory could do.
REMEMBERED = {
    "previous_response_id": text, "conversation": text | members(id=text), "background": flag,
    "prompt": members(id=text, version=text, variables=anything), "context_management": anything,
}  # fmt: skip

# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────

cached = st.just({"type": "ephemeral"})
told = st.fixed_dictionaries({"type": st.just("text"), "text": text}, optional={"cache_control": cached})
source = typed("base64", media_type=one_of("image/png", "application/pdf"), data=text) | typed("url", url=text)
shown = told | typed("image", source=source)
paper = typed("base64", media_type=st.just("application/pdf"), data=text) | typed("text", data=text)
blocks = st.one_of(
    shown,
    typed("document", source=paper, title=text),
    typed("search_result", content=some(told), source=text, title=text),
    typed("tool_result", tool_use_id=text, content=text | some(shown), is_error=flag),
)
thoughts = st.one_of(
    told,
    typed("thinking", thinking=text, signature=text),
    typed("redacted_thinking", data=text),
    typed("tool_use", id=text, name=text, input=st.dictionaries(text, anything, max_size=2)),
)
turns = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": words | some(blocks, least=1)})
    | st.fixed_dictionaries({"role": st.just("assistant"), "content": text | some(thoughts)}),
    min_size=1,
    max_size=3,
)
offered = st.fixed_dictionaries(
    {"name": words, "input_schema": schema},
    optional={"type": st.just("custom"), "description": text, "strict": flag, "cache_control": cached},
)
MESSAGES = {
    "cache_control": cached,
    "diagnostics": anything,
    "inference_geo": text,
    "metadata": members(user_id=text),
    "output_config": members(effort=effort, format=typed("json_schema", schema=schema)),
    "service_tier": one_of("auto", "standard_only"),
    "speed": one_of("standard", "fast"),
    "stop_sequences": some(text),
    "stream": flag,
    "system": text | some(told),
    "temperature": number,
    "thinking": typed("enabled", budget_tokens=count) | typed("disabled") | typed("adaptive"),
    "tool_choice": members({"type": one_of("auto", "none")}, disable_parallel_tool_use=flag),
    "tools": some(offered),
    "top_k": count,
    "top_p": number,
    "user_profile_id": text,
    "workspace_id": text,
}

# ── whole requests ──────────────────────────────────────────────────────────────────────────────────────────────


def bodies(needed: Mapping[str, Strategy], fields: Mapping[str, Strategy]) -> Strategy:
    """Requests with what they need and any of ``fields``, or null for them."""
    return members(needed, **{name: st.none() | kind for name, kind in fields.items()})


@st.composite
def spoiled(draw: st.DrawFn, body: Strategy, *, most: int = 2) -> Any:
    """A body of which some values, wherever they stand, are others, or gone."""
    value = draw(body)
    for _ in range(draw(st.integers(1, most))):
        value = _spoil(draw, value)
    return value


def _spoil(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value:
        return draw(anything)
    keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    copy = value.copy()
    match draw(st.sampled_from(["deeper", "deeper", "other", "gone"])):
        case "deeper":
            copy[key] = _spoil(draw, value[key])
        case "other":
            copy[key] = draw(anything)
        case _:
            del copy[key]
    return copy


_JUNK = (b"", b'"', b"\\ud800", b"\xff", b"[", b"{", b"}", b"\0", b"1e999", b",", b"null", b"\\u0000", b"\xef\xbb\xbf")


@st.composite
def garbled(draw: st.DrawFn, body: Strategy) -> bytes:
    """The bytes of a body, cut and with something put in."""
    data = json.dumps(draw(body), ensure_ascii=draw(flag)).encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(data)))
    rest = data[at + draw(st.integers(0, 2)) :] if draw(flag) else b""
    return data[:at] + draw(st.sampled_from(_JUNK)) + rest
