"""Answers an upstream that asks for a model (``sampling/createMessage``) by one of trillm's own, as a chat call."""

from typing import Any

from trillm.errors import TrillmError
from trillm.gateway.access import Caller
from trillm.gateway.gateway import Gateway
from trillm.mcp.asking import ask
from trillm.mcp.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError
from trillm.mcp.relay import Sampler
from trillm.mcp.session import Params
from trillm.models import Operation

_STOPPED = {"stop": "endTurn", "length": "maxTokens", "stop_sequence": "stopSequence"}


def build_sampler(gateway: Gateway) -> Sampler:
    """Return what answers by ``gateway``'s models; whoever added the server said which."""

    async def sample(model: str, params: Params) -> Params:
        try:
            answer, _ = await ask(gateway, Caller(), Operation.CHAT, as_chat(model, params))
        except TrillmError as error:
            raise RpcError(INTERNAL_ERROR, f"Sampling failed: {error.message}") from error
        return as_sampled(model, answer)

    return sample


def as_chat(model: str, params: Params) -> Params:
    """Return the chat request of a ``sampling/createMessage``.

    Raises:
        RpcError: it wants what trillm does not offer to upstreams: sound, or tools.
    """
    if params.get("tools"):
        raise RpcError(INVALID_PARAMS, "trillm offers sampling without tools.")
    system = params.get("systemPrompt")
    messages = [{"role": "system", "content": system}] if system else []
    messages += [_message(message) for message in params.get("messages") or ()]
    options = {"max_tokens": params.get("maxTokens"), "temperature": params.get("temperature")}
    options["stop"] = params.get("stopSequences") or None
    given = {name: value for name, value in options.items() if value is not None}
    return {"model": model, "messages": messages, **given}


def _message(message: Params) -> Params:
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content]
    parts = [_part(block) for block in blocks]
    alone = len(parts) == 1 and parts[0]["type"] == "text"
    return {"role": message.get("role", "user"), "content": parts[0]["text"] if alone else parts}


def _part(block: Any) -> Params:
    match block:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "image", "data": str(data), "mimeType": str(mime)}:
            return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
    kind = block.get("type") if isinstance(block, dict) else block
    raise RpcError(INVALID_PARAMS, f"trillm offers sampling with texts and images, not with {kind!r}.")


def as_sampled(model: str, answer: Params) -> Params:
    """Return the result of a ``sampling/createMessage`` from a chat completion."""
    choice = (answer.get("choices") or [{}])[0]
    said = (choice.get("message") or {}).get("content") or ""
    sampled = {
        "role": "assistant",
        "content": {"type": "text", "text": said},
        "model": str(answer.get("model") or model),
    }
    reason = choice.get("finish_reason")
    return sampled | ({"stopReason": _STOPPED.get(reason, reason)} if reason else {})
