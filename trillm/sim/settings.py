"""How a simulated server behaves: its settings, what one request may direct otherwise, and what comes of both.

Values only; the one thing drawn by lot is drawn from the generator that is passed in.
"""

import random
from collections.abc import Callable
from typing import Annotated, Any

import attrs
import msgspec
from attrs import field, frozen

from trillm.errors import ConfigError
from trillm.sim.faults import SECONDS, Fault, FaultPlan


def _within(least: float, most: float = float("inf")) -> Callable[[Any, "attrs.Attribute[Any]", Any], None]:
    def check(_settings: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
        if value is not None and not least <= value <= most:
            limits = f"at least {least:g}" if most == float("inf") else f"between {least:g} and {most:g}"
            raise ConfigError(f"sim.{attribute.name}", f"must be {limits}, not {value:g}")

    return check


@frozen
class SimSettings:
    """Settings of one simulator.

    Args:
        ttft_s: seconds until the first token, or until the whole answer of embeddings and ranking.
        itl_s: seconds between two tokens.
        tokens: how many tokens an answer has when the request does not ask for fewer.
        jitter: each of these times is varied by up to this share of itself, 0 to 1.
        seed: makes texts, jitter and faults repeatable; None: different each time.
        fail: what goes wrong, and how often.
        slots: how many requests are worked on at once, the others wait; None: all.
    """

    ttft_s: float = field(default=0.0, validator=_within(0))
    itl_s: float = field(default=0.0, validator=_within(0))
    tokens: int = field(default=24, validator=_within(1))
    jitter: float = field(default=0.0, validator=_within(0, 1))
    seed: int | None = 0
    fail: FaultPlan = field(factory=FaultPlan)
    slots: int | None = field(default=None, validator=_within(1))


_Amount = Annotated[float, msgspec.Meta(ge=0)]


class Pace(msgspec.Struct, kw_only=True):
    """How an answer comes, and what goes wrong with it. What is not named is as the settings say.

    Args:
        fault: what is to go wrong; null: nothing.
        seconds: how late, how long, when to come back: see :data:`trillm.sim.faults.SECONDS`.
        after: tokens before a fault that happens midway; default: half of them.
        ttft_s: as in the settings.
        itl_s: as in the settings.
        tokens: as in the settings.
    """

    fault: Fault | msgspec.UnsetType | None = msgspec.UNSET
    seconds: _Amount | None = None
    after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    ttft_s: _Amount | None = None
    itl_s: _Amount | None = None
    tokens: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None


class DirectedCall(msgspec.Struct):
    """A tool call to make.

    Args:
        name: of the function, offered or not.
        arguments: an object; or a text that is sent as it is, JSON or not.
    """

    name: str
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict)


class Turn(Pace, kw_only=True):
    """One turn of a chat with tools.

    Args:
        say: text before the calls.
        calls: to make; none: the turn is answered with text as always.
        times: how many turns in a row go like this.
        disobeys: whether the calls are made although ``tool_choice`` is ``none``, as by servers that do not know it.
    """

    say: str = ""
    calls: Annotated[list[DirectedCall], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list)
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    disobeys: bool = False


class Direction(Pace, kw_only=True):
    """The member ``x_sim`` of a request.

    Args:
        turns: what is done in the first turn after the user's last message, in the next, and so on; after these,
            text as always. How an answer comes is said here for all turns, in a turn for that one.
    """

    turns: list[Turn] = msgspec.field(default_factory=list)

    def turn(self, number: int) -> Turn | None:
        """Return the turn of that number, from 0, if it is directed."""
        for turn in self.turns:
            if number < turn.times:
                return turn
            number -= turn.times
        return None


@frozen
class Cue:
    """How one answer is to go.

    Args:
        rng: what its jitter is drawn from.
        ttft_s: as in the settings; so are ``itl_s`` and ``jitter``.
        fault: what goes wrong.
        seconds: of the fault, see :data:`trillm.sim.faults.SECONDS`.
        after: as directed.
    """

    rng: random.Random = field(repr=False)
    ttft_s: float = 0.0
    itl_s: float = 0.0
    jitter: float = 0.0
    fault: Fault | None = None
    seconds: float = 0.0
    after: int | None = None

    @classmethod
    def of(cls, settings: SimSettings, directed: Pace, rng: random.Random) -> "Cue":
        """Decide how the next answer is to go."""
        fault, seconds = _fault(settings.fail, directed, rng)
        return cls(
            rng=rng,
            ttft_s=settings.ttft_s if directed.ttft_s is None else directed.ttft_s,
            itl_s=settings.itl_s if directed.itl_s is None else directed.itl_s,
            jitter=settings.jitter,
            fault=fault,
            seconds=seconds if directed.seconds is None else directed.seconds,
            after=directed.after,
        )

    @property
    def at_once(self) -> bool:
        """Whether nothing has to be waited for."""
        return self.fault is None and not self.ttft_s and not self.itl_s

    def varied(self, seconds: float) -> float:
        """Return a time with its jitter."""
        return seconds * self.rng.uniform(1 - self.jitter, 1 + self.jitter) if self.jitter else seconds


def _fault(plan: FaultPlan, directed: Pace, rng: random.Random) -> tuple[Fault | None, float]:
    if isinstance(directed.fault, msgspec.UnsetType):
        chance = plan.pick(rng)
        return (chance.fault, chance.seconds) if chance else (None, 0.0)
    return directed.fault, SECONDS.get(directed.fault, 0.0) if directed.fault else 0.0
