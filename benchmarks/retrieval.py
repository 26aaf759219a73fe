"""What a ranking and translated embeddings cost, beside a plain call: CPU of trillm's process per request.

    python -m benchmarks.retrieval     under a minute; needs Linux

The bound: a call whose answer is made here may cost twice a plain one for each request that it puts to a server.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from attrs import frozen

from benchmarks import upstream
from benchmarks.processes import Cost, Running, running
from trillm.bench.asks import Ask, Target
from trillm.bench.load import Load, run_load

DOCUMENTS = [f"word{number} " * 40 for number in range(20)]
BOUND = 2.0
ROUNDS, SECONDS = 3, 2.0


@frozen
class Case:
    """What is asked.

    Args:
        name: for the table.
        path: after ``/v1``.
        fields: of the body, but for the model.
        exchanges: requests to a server that it takes.
    """

    name: str
    path: str
    fields: dict[str, Any]
    exchanges: int = 1


PLAIN = Case(
    "plain chat of 4 kB", "/chat/completions", {"messages": [{"role": "user", "content": d} for d in DOCUMENTS]}
)
CASES = (
    PLAIN,
    Case("embeddings, 4 inputs, passed", "/embeddings", {"input": DOCUMENTS[:4], "encoding_format": "base64"}),
    Case("embeddings, 16 inputs in 4 parts", "/embeddings", {"input": DOCUMENTS[:16]}, exchanges=4),
    Case("ranking, 20 documents", "/rerank", {"query": "q", "documents": DOCUMENTS, "top_n": 5}),
)


def serve(port: int) -> None:
    """Run an upstream that ranks twenty documents; it embeds four texts, whichever."""
    results = [{"index": i, "relevance_score": -0.37 * i} for i in range(len(DOCUMENTS))]
    usage = {"prompt_tokens": 500, "total_tokens": 500}
    body = json.dumps({"results": results, "usage": usage}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    upstream.WHOLE[b"/v1/rerank"] = head + body
    asyncio.run(upstream.serve(port, 1, 0.0))


async def measure() -> dict[str, float]:
    """Return microseconds of CPU per request by the case's name, the least of several rounds."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with running("upstream", ["benchmarks.retrieval", "--serve", "{port}"], folder, upstream.MODEL) as behind:
            command = [
                "trillm",
                "serve",
                "--no-discover",
                "--port",
                "{port}",
                "--config",
                str(_registry(folder, behind)),
            ]
            async with running("trillm", command, folder, upstream.MODEL) as trillm:
                rounds = [{case.name: await _cost_us(trillm, case) for case in CASES} for _ in range(ROUNDS)]
    return {case.name: min(costs[case.name] for costs in rounds) for case in CASES}


def _registry(folder: Path, behind: Running) -> Path:
    registry = folder / "servers.json"
    # Logits are the dearest of scores; a batch of four is what the upstream answers.
    server = {"url": behind.url, "kind": "openai", "score": "sigmoid", "max_batch": 4}
    ranker = {"url": behind.url, "kind": "openai", "score": "sigmoid", "models": ["ranker"]}
    routes = {"ranker": {"to": [f"ranker/{upstream.MODEL}"]}}
    registry.write_text(json.dumps({"version": 1, "servers": {"one": server, "ranker": ranker}, "routes": routes}))
    return registry


async def _cost_us(server: Running, case: Case) -> float:
    model = "ranker" if case.path == "/rerank" else upstream.MODEL
    ask = Ask.build(Target(server.url, model), case.path, case.fields)
    costs: list[Cost] = []

    def note() -> None:
        cost = server.cost()
        if cost is None:
            raise SystemExit("what a process costs is only known on Linux")
        costs.append(cost)

    load = Load(server.target.origin, (ask,), 1, seconds=SECONDS, warmup_s=0.3)
    tally = await run_load(load, at_edges=note)
    if tally.errors or not tally.requests:
        raise SystemExit(f"{case.name}: {dict(tally.errors)}")
    return (costs[-1].cpu_s - costs[0].cpu_s) / tally.requests * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
    costs = trio.run(measure)
    kept = True
    for case in CASES:
        ratio = costs[case.name] / costs[PLAIN.name]
        good = ratio <= BOUND * case.exchanges
        kept = kept and good
        print(f"{case.name:<34} {costs[case.name]:6.0f} µs  {ratio:5.2f} x plain{'' if good else '  OVER ITS BOUND'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
