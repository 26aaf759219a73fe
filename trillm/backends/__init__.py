"""How each kind of server differs. A new kind is one file here and one row in :data:`KINDS`."""

from collections.abc import Mapping
from types import MappingProxyType

from trillm.backends.base import Backend
from trillm.backends.builtin import Builtin
from trillm.backends.infinity import Infinity
from trillm.backends.llamacpp import LlamaCpp
from trillm.backends.lmstudio import LMStudio
from trillm.backends.ollama import Ollama
from trillm.backends.openai import OpenAI
from trillm.backends.tei import TEI
from trillm.backends.vllm import VLLM

_ALL: tuple[Backend, ...] = (
    Builtin(),
    Ollama(),
    LlamaCpp(),
    LMStudio(),
    TEI(),
    Infinity(),
    VLLM(),
    OpenAI(),  # takes what is left
)
_TABLE = {backend.kind: backend for backend in _ALL}

#: Every kind of server by its name, in the order in which they are recognised.
KINDS: Mapping[str, Backend] = MappingProxyType(_TABLE)
