"""What a simulated server does wrong, on purpose: the faults by name, and a seeded plan of how often each happens.

Pure. What a fault looks like on the wire is :mod:`trillm.sim.script`'s.
"""

import enum
import math
import random
import re

from attrs import frozen

from trillm.errors import ConfigError


class Fault(enum.StrEnum):
    """One way to misbehave. The value is its name in a plan and in a request's ``x_sim``."""

    REFUSE = "refuse"  # the connection is closed before anything is answered
    BUSY = "429"  # with retry-after
    BROKEN = "500"
    UNAVAILABLE = "503"
    SILENT = "silent"  # accepted, never answered
    SLOW = "slow"  # a stream's head comes at once, its first token late; a whole answer comes late
    CUT = "cut"  # aborted midway: the last chunk, or the rest of the body, is missing
    EOF = "eof"  # a stream ends cleanly for HTTP without finish_reason or [DONE]; a whole answer is empty
    STALL = "stall"  # silence midway
    MALFORMED = "malformed"  # one broken frame, then on as if nothing were; a whole answer is broken JSON
    NODONE = "nodone"  # finish_reason but no [DONE]
    ERROR = "error"  # an error object midway; a whole answer is one, with status 200
    GARBAGE = "garbage"  # 200 with a page of HTML


#: The faults that take a time, and theirs if none is given: how late, how long, when to come back.
SECONDS = {Fault.SLOW: 8.0, Fault.STALL: math.inf, Fault.BUSY: 1.0}

_ITEM = re.compile(r"(?P<name>[^=:]+)(?:=(?P<seconds>[^=:]+))?(?::(?P<probability>[^=:]+))?")


@frozen
class Chance:
    """A fault and how likely it is.

    Args:
        fault: which.
        probability: 0 to 1.
        seconds: see :data:`SECONDS`.
    """

    fault: Fault
    probability: float
    seconds: float


@frozen
class FaultPlan:
    """How often a server misbehaves, and how; at most one fault per request."""

    chances: tuple[Chance, ...] = ()

    @classmethod
    def parse(cls, text: str, *, where: str = "fail") -> "FaultPlan":
        """Read a plan such as ``500:0.05,cut:0.1,slow=8:0.02``: name, seconds if any, probability (default 1).

        Args:
            text: the plan; empty is a server without faults.
            where: what to name in errors.

        Raises:
            ConfigError: an unknown name, a number that is none, or probabilities that add up to more than 1.
        """
        plan = cls(tuple(_chance(item.strip(), where) for item in text.split(",") if item.strip()))
        total = sum(chance.probability for chance in plan.chances)
        if total > 1 + 1e-9:
            raise ConfigError(where, f"the probabilities add up to {total:g}, which is more than 1")
        return plan

    def pick(self, rng: random.Random) -> Chance | None:
        """Draw what happens to the next request."""
        if not self.chances:
            return None
        draw = rng.random()
        for chance in self.chances:
            draw -= chance.probability
            if draw < 0:
                return chance
        return None


def named(name: str, where: str) -> Fault:
    """Return the fault of that name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    try:
        return Fault(name)
    except ValueError:
        raise ConfigError(where, f"{name!r} is no fault; there are {', '.join(Fault)}") from None


def _chance(item: str, where: str) -> Chance:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ConfigError(where, f"{item!r} is not of the form name:probability or name=seconds:probability")
    fault = named(match["name"], where)
    if match["seconds"] and fault not in SECONDS:
        raise ConfigError(where, f"{fault} takes no seconds, only {', '.join(SECONDS)} do")
    seconds = _number(match["seconds"], item, math.inf, where) if match["seconds"] else SECONDS.get(fault, 0.0)
    return Chance(fault, _number(match["probability"] or "1", item, 1.0, where), seconds)


def _number(text: str, item: str, most: float, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        limits = f"between 0 and {most:g}" if most < math.inf else "of seconds"
        raise ConfigError(where, f"in {item!r}, {text!r} is not a number {limits}")
    return value
