"""What peers are asked: kinds of requests, how many at once, at what pace. Values; nothing here measures."""

from collections.abc import Sequence

from attrs import evolve, frozen

from trillm.bench.asks import Ask, Kind, Target, build_asks

_INSTRUCTIONS = "The quick brown fox jumps over the lazy dog while the band plays on. " * 6
_IMAGE = "data:image/png;base64,"


@frozen
class Pace:
    """How the upstream streams.

    Args:
        gap_ms: between two tokens; before a plain answer.
        tokens: in each stream.
        frame_bytes: of each event, at least.
    """

    gap_ms: int
    tokens: int = 64
    frame_bytes: int = 0

    def __str__(self) -> str:
        """Return the words that :mod:`benchmarks.upstream` looks for in a prompt."""
        return f"[pace gap_ms={self.gap_ms} tokens={self.tokens} frame={self.frame_bytes}]"


@frozen
class Scenario:
    """A load.

    Args:
        name: for tables.
        connections: requests at once.
        kind: of requests: plain chats, streams or embeddings.
        pace: of streams, or of plain chats that are not answered at once.
        image_bytes: sent along with each plain chat, base64 as counted.
        seconds: how long is counted, in each round.
        rounds: how often.
        warmup_s: before each round.
        patience_s: the most that is waited for the first answers and for the last.
    """

    name: str
    connections: int
    kind: Kind = Kind.PLAIN
    pace: Pace | None = None
    image_bytes: int = 0
    seconds: float = 2.0
    rounds: int = 3
    warmup_s: float = 0.7
    patience_s: float = 15.0

    @property
    def streamed(self) -> bool:
        """Whether chunks are counted, not requests."""
        return self.kind is Kind.STREAM

    def asks(self, target: Target) -> tuple[Ask, ...]:
        """Return what every connection asks over and over."""
        if self.pace:
            return (_chat(target, str(self.pace), stream=self.streamed),)
        if self.image_bytes:
            image = {"type": "image_url", "image_url": {"url": _IMAGE + "iVBO" * (self.image_bytes // 4)}}
            return (_chat(target, [{"type": "text", "text": "What is this?"}, image]),)
        return build_asks(target, self.kind)


def _chat(target: Target, content: object, **fields: bool) -> Ask:
    messages = [{"role": "system", "content": _INSTRUCTIONS}, {"role": "user", "content": content}]
    return Ask.build(target, "/chat/completions", {"messages": messages, "max_tokens": 64, **fields})


def plain(connections: int) -> Scenario:
    """Return plain chats of 0.7 KB, answered at once: the closed loop takes all that a proxy can give."""
    return Scenario(f"plain {connections}", connections)


def streamed(connections: int, gap_ms: int = 10) -> Scenario:
    """Return streams at a pace that leaves the machine time, so that gaps mean something."""
    name = f"stream {connections}" + ("" if gap_ms == 10 else f" @{gap_ms} ms")
    return Scenario(name, connections, Kind.STREAM, Pace(gap_ms))


IMAGE = Scenario("image 20 MB", 2, image_bytes=20_000_000, seconds=3.0)
EMBEDDINGS = Scenario("embeddings 50", 50, Kind.EMBEDDINGS)
#: What one core is to carry: 20 tokens a second each.
MANY_STREAMS = evolve(streamed(1000, gap_ms=50), seconds=4.0, rounds=2, warmup_s=3.5)

FULL = (
    *(plain(1), streamed(1), plain(50), streamed(50), IMAGE, EMBEDDINGS),
    *(plain(200), streamed(200), plain(1000), MANY_STREAMS),
)
QUICK = tuple(
    evolve(each, seconds=2.0 if each is IMAGE else 0.8, rounds=1, warmup_s=0.3)
    for each in FULL
    if each.connections < 1000
)


def chosen(names: Sequence[str], scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Return those whose names begin with one of ``names``; all if there are none."""
    return [each for each in scenarios if not names or each.name.startswith(tuple(names))]
