"""The line itself: what waits for it, what replaces what, how it ends."""

import pytest
import trio
from trio.testing import memory_stream_pair

from trillm.workers import channel
from trillm.workers.channel import Channel
from trillm.workers.messages import Broken, Gone, Moved, Ready, Tell


async def heard(stream: trio.abc.Stream) -> list:
    return [message async for message in Channel(stream).messages()]


async def test_what_is_told_arrives_in_order_and_the_newest_of_what_is_about_the_same(nursery):
    ours, theirs = memory_stream_pair()
    line = Channel(ours)
    line.tell(Ready("one"))
    line.tell(Moved("http://old"), about="moved")
    line.tell(Tell(1, "metrics"))
    line.tell(Moved("http://new"), about="moved")
    nursery.start_soon(line.serve_outbox)
    await trio.testing.wait_all_tasks_blocked()
    await ours.aclose()
    assert await heard(theirs) == [Ready("one"), Moved("http://new"), Tell(1, "metrics")]


async def test_what_has_come_together_is_asked_for_right_before_it_is_sent(nursery):
    ours, theirs = memory_stream_pair()
    waiting = [Ready("a"), Ready("b")]
    line = Channel(ours, prepare=lambda: line.tell(waiting.pop(0)) if waiting else None)
    nursery.start_soon(line.serve_outbox)
    line.wake()
    await trio.testing.wait_all_tasks_blocked()
    await ours.aclose()
    assert await heard(theirs) == [Ready("a"), Ready("b")]


async def test_a_side_that_never_listens_costs_the_line_and_no_more(monkeypatch):
    monkeypatch.setattr(channel, "MAX_WAITING", 10)
    line = Channel(memory_stream_pair()[0])
    for number in range(11):
        line.tell(Tell(number, "metrics"))
    with pytest.raises(Broken, match="11 messages wait"):
        await line.serve_outbox()


async def test_a_side_that_is_gone_ends_both_directions(autojump_clock):
    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    line = Channel(ours)
    line.tell(Ready("who hears that?"))
    with pytest.raises(Gone):
        await line.flush()
    line.tell(Ready("nobody"))
    with trio.fail_after(1):
        await line.serve_outbox()
        assert [message async for message in line.messages()] == []
