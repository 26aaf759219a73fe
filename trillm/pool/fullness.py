"""For which of its models a server said that it is full, and until when: a pure state machine without a clock.

Full is not broken: such a server is the last choice for a while, not out of the question. It says for how long, or that
is guessed, longer each time it is full again (exponential backoff). By model, since clouds limit each of theirs for
itself.
"""

import math

from attrs import define, field


@define
class Fullness:
    """See the module's docstring. All times are seconds on one monotonic clock.

    Args:
        first_pause_s: what is guessed the first time.
        longest_pause_s: the most that is guessed.
        longest_asked_s: the most that a server is believed.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 8.0
    longest_asked_s: float = 60.0
    _until: dict[str, float] = field(factory=dict, init=False)
    _guesses: dict[str, int] = field(factory=dict, init=False)

    def until(self, model: str) -> float:
        """Return until when there is no room for ``model``; minus infinity if nothing is known."""
        return self._until.get(model, -math.inf)

    def refused(self, model: str, now: float, asked_s: float | None) -> None:
        """The server had no room for a request; it asked to be left alone for ``asked_s``, if it said so."""
        if asked_s is not None:
            self._until[model] = max(self.until(model), now + min(asked_s, self.longest_asked_s))
        elif self.until(model) <= now:  # else one of many requests that were sent before it was known
            guesses = self._guesses.get(model, 0)
            self._guesses[model] = min(guesses + 1, 64)
            self._until[model] = now + min(math.ldexp(self.first_pause_s, guesses), self.longest_pause_s)

    def answered(self, model: str) -> None:
        """The server had room again."""
        self._until.pop(model, None)
        self._guesses.pop(model, None)

    @property
    def over(self) -> bool:
        """Whether nothing is left to remember."""
        return not self._until
