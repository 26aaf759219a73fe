"""Imports point down only. The table is the architecture: a module that is not in it has no place yet."""

import ast
from collections.abc import Iterable
from pathlib import Path

import trillm

ROOT = Path(trillm.__file__).parent

LAYERS = (
    {"errors", "models", "sse", "keys", "lexical", "dialects"},
    {"hub", "budget", "supervise", "metrics", "logs", "stop", "runfile", "workers"},
    {"registry", "wire", "backends"},
    {"pool"},
    {"gateway"},
    {"door", "api", "mcp", "sim"},
    {"cli", "app", "settings", "banner", "observe", "bench", "worker", "parent", "__main__"},
)
FACES = LAYERS[5]
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names}


def part_of(module: str) -> str:
    """``trillm.pool.choose`` is of ``pool``; ``trillm`` itself and what is not ours is of none."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "trillm" else ""


def imported_by(tree: ast.AST) -> Iterable[str]:
    """The full names of what is imported, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def all_imports() -> Iterable[tuple[str, str]]:
    """Each module, and each name it imports, in full."""
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(("trillm", *path.relative_to(ROOT).with_suffix("").parts))
        yield from ((module, name) for name in imported_by(ast.parse(path.read_bytes())))


IMPORTS = list(all_imports())
OURS = [(module, name) for module, name in IMPORTS if part_of(name) in LAYER and module != "trillm.__init__"]


def test_every_module_has_its_layer():
    parts = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} <= LAYER.keys()
    assert len(OURS) > 100  # else the other tests here look at nothing


def test_imports_point_down_only():
    upwards = [(module, name) for module, name in OURS if LAYER[part_of(name)] > LAYER[part_of(module)]]
    assert upwards == []


def test_faces_do_not_import_each_other():
    sideways = [
        (module, name)
        for module, name in OURS
        if part_of(module) != part_of(name) and {part_of(module), part_of(name)} <= FACES
    ]
    assert sideways == []


def test_the_lowest_layer_does_not_know_trio():
    assert [m for m, name in IMPORTS if LAYER.get(part_of(m)) == 0 and name.partition(".")[0] == "trio"] == []


def test_no_other_http_client_than_our_own():
    assert {module for module, name in IMPORTS if name.partition(".")[0] in {"httpx", "requests", "urllib3"}} == set()
