"""Servers and clients nobody here wrote. Where they are absent the tests are skipped and say how to enable them."""

from pathlib import Path

import pytest
from support.llama import is_here, running_llama


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """Start a real llama-server for each of its roles; yield their URLs by role."""
    if not is_here():
        pytest.skip("no llama-server: set TRILLM_LLAMA_SERVER and TRILLM_LLAMA_MODELS, see CONTRIBUTING.md")
    with running_llama(tmp_path_factory.mktemp("llama")) as urls:
        yield urls


@pytest.fixture(scope="session")
def llama_tool(llama):
    """A real llama-server whose model calls a tool whenever it may."""
    if "tool" not in llama:
        pytest.skip("no tiny-tool.gguf: see CONTRIBUTING.md")
    return llama["tool"]
