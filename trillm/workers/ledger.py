"""Who may use how many of a server's slots: the parent's books, pure decisions without a clock.

All slots of a server belong to the parent, which grants them to workers that ask, first come, first served. While
nobody has to wait, a worker keeps what it was granted and uses it again without asking. When somebody has to, every
worker gives back what it does not use at once, and what it does use when the request that uses it has ended, except
that a slot may serve short requests one after the other for ``SLICE_S``. That is how an operating system shares a
processor: nobody waits for ever, and short requests are not dominated by what sharing costs.

What is granted and not given back is never more than the server's limit, unless the limit was lowered meanwhile.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator

from attrs import define, field

from trillm.workers.messages import Share, Use

#: How long a slot may serve one worker while others wait. A request takes what it takes; it is not interrupted.
SLICE_S = 0.05

#: A worker, and which of its accounts.
Holder = tuple[int, int]


@define
class _Account:
    """One holder's."""

    limit: int | None = None
    granted: int = 0
    returned: int = 0

    @property
    def held(self) -> int:
        return self.granted - self.returned


@define
class _Book:
    """One server's: the accounts, and who waits, once for every slot."""

    accounts: dict[Holder, _Account] = field(factory=dict)
    queue: deque[Holder] = field(factory=deque)
    keep_s: float = math.inf

    @property
    def limit(self) -> int:
        """The lowest that anybody knows: a change reaches the workers one after the other."""
        return min((account.limit for account in self.accounts.values() if account.limit is not None), default=0)

    @property
    def free(self) -> int:
        """Slots that nobody holds; below 0 after the limit was lowered."""
        return self.limit - sum(account.held for account in self.accounts.values())

    def claim(self, holder: Holder, slots: int) -> None:
        """Let ``holder`` wait for so many slots: new ones at the end, and it is the newest that it gives up."""
        waiting = self.queue.count(holder)
        self.queue.extend([holder] * (slots - waiting))
        for _ in range(waiting - slots):
            del self.queue[len(self.queue) - 1 - _index_from_the_end(self.queue, holder)]

    def leave(self, holder: Holder) -> None:
        del self.accounts[holder]
        self.queue = deque(waiting for waiting in self.queue if waiting != holder)

    def settle(self) -> set[Holder]:
        """Grant what can be granted; return whose share is another now."""
        told = set()
        free = self.free
        while free > 0 and self.queue:
            holder = self.queue.popleft()
            self.accounts[holder].granted += 1
            told.add(holder)
            free -= 1
        keep_s = self._keep_s(free)
        if keep_s != self.keep_s:
            self.keep_s = keep_s
            told.update(self.accounts)
        return told

    def shares(self, server: str, holders: Iterable[Holder]) -> Iterator[tuple[int, Share]]:
        """Yield what each of ``holders`` is to be told, and to which worker that goes."""
        for holder in holders:
            worker, portion = holder
            granted = self.accounts[holder].granted
            yield worker, Share(server, portion, granted, self.keep_s, len(self.queue))

    def _keep_s(self, free: int) -> float:
        if free < 0:
            return 0.0
        if self.queue:
            return SLICE_S
        # Not at once, or a queue that comes and goes with every request would be news to everybody each time.
        scarce = self.keep_s < math.inf and 2 * free < self.limit
        return SLICE_S if scarce else math.inf


def _index_from_the_end(queue: deque[Holder], holder: Holder) -> int:
    return next(index for index, waiting in enumerate(reversed(queue)) if waiting == holder)


@define(eq=False)
class Ledger:
    """The books of all servers. What its functions return is to be sent: to which worker, and what."""

    _books: dict[str, _Book] = field(factory=dict, init=False)

    def used(self, worker: int, use: Use) -> Iterator[tuple[int, Share]]:
        """Take in what ``worker`` tells."""
        book = self._books.setdefault(use.server, _Book())
        holder = (worker, use.portion)
        account = book.accounts.setdefault(holder, _Account())
        account.limit, account.returned = use.limit, use.returned
        book.claim(holder, 0 if use.limit is None else max(0, use.claimed - account.granted))
        if use.limit is None and not account.held:
            book.leave(holder)
        yield from self._settled(use.server)

    def left(self, worker: int) -> Iterator[tuple[int, Share]]:
        """Take back everything that ``worker`` had; it is dead."""
        for server, book in tuple(self._books.items()):
            for holder in [holder for holder in book.accounts if holder[0] == worker]:
                book.leave(holder)
            yield from self._settled(server)

    def scarce(self) -> Iterator[tuple[int, Share]]:
        """Tell everybody how many wait now, where some do: whether it is worth to wait depends on it."""
        for server, book in self._books.items():
            if book.keep_s < math.inf:
                yield from book.shares(server, book.accounts)

    def _settled(self, server: str) -> Iterator[tuple[int, Share]]:
        book = self._books[server]
        if not book.accounts:
            del self._books[server]
            return
        yield from book.shares(server, book.settle())
