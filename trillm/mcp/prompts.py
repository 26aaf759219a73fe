"""The prompts of the registry as MCP clients see them, and what may be filled in."""

from collections.abc import Mapping, Sequence
from typing import Any

from trillm.mcp import resources
from trillm.mcp.errors import INVALID_PARAMS, RpcError
from trillm.mcp.house import House, shown_models
from trillm.mcp.paging import page
from trillm.mcp.session import Params, Request
from trillm.registry.prompts import Argument, Prompt

#: As many as the specification lets a completion have.
MOST_VALUES = 100


async def list_prompts(house: House, request: Request) -> Params:
    """Answer ``prompts/list``."""
    return page("prompts", [_described(prompt) for prompt in prompts_of(house).values()], request.params)


async def get_prompt(house: House, request: Request) -> Params:
    """Answer ``prompts/get``.

    Raises:
        RpcError: there is no such prompt, or an argument is missing or unknown.
    """
    prompt, given = _prompt(house, request.params.get("name")), request.params.get("arguments") or {}
    unknown = [name for name in given if name not in prompt.arguments]
    missing = [name for name, argument in prompt.arguments.items() if argument.required and name not in given]
    if unknown or missing:
        problem = f"missing: {', '.join(missing)}" if missing else f"unknown: {', '.join(unknown)}"
        raise RpcError(INVALID_PARAMS, f"Arguments of the prompt {prompt.name!r}: {problem}.")
    messages = [{"role": role, "content": {"type": "text", "text": text}} for role, text in prompt.filled(given)]
    return {"messages": messages} | _description(prompt)


async def complete(house: House, request: Request) -> Params:
    """Answer ``completion/complete``: values that begin as the client's does, whatever their case."""
    ref, asked = request.params["ref"], request.params["argument"]
    choices = _choices(house, ref, asked, request)
    fitting = sorted(choice for choice in choices if choice.lower().startswith(asked["value"].lower()))
    shown = fitting[:MOST_VALUES]
    return {"completion": {"values": shown, "total": len(fitting), "hasMore": len(shown) < len(fitting)}}


def prompts_of(house: House) -> Mapping[str, Prompt]:
    """Return the prompts there are now."""
    return house.registry.snapshot.document.prompts


def _choices(house: House, ref: Params, asked: Params, request: Request) -> Sequence[str]:
    if ref["type"] == "ref/resource":
        return resources.matching(house, ref)
    prompt = _prompt(house, ref.get("name"))
    argument = prompt.arguments.get(asked["name"])
    if argument is None:
        raise RpcError(INVALID_PARAMS, f"The prompt {prompt.name!r} has no argument {asked['name']!r}.")
    if argument.values:
        return argument.values
    if argument.name == "model":
        return [model["id"] for model in shown_models(house, request)]
    return list(house.gateway.pool.members) if argument.name == "server" else ()


def _prompt(house: House, name: Any) -> Prompt:
    prompts = prompts_of(house)
    if name not in prompts:
        raise RpcError(INVALID_PARAMS, f"Unknown prompt: {name!r}. There are: {', '.join(prompts) or 'none'}.")
    return prompts[name]


def _described(prompt: Prompt) -> Params:
    arguments = [
        {"name": argument.name, "required": argument.required, **_description(argument)}
        for argument in prompt.arguments.values()
    ]
    return {"name": prompt.name, "arguments": arguments, **_description(prompt)}


def _description(described: Prompt | Argument) -> Params:
    return {"description": described.description} if described.description else {}
