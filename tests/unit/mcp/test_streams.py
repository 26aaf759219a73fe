import pytest
import trio
import trio.testing

from trillm.mcp.streams import KEPT, Streams


@pytest.fixture
def stream():
    return Streams().open()


async def all_of(stream, after=0):
    with stream.reading(after) as reader:
        got = []
        while (found := await stream.next(reader)) is not None:
            got.append(found)
        return got


async def test_messages_come_in_order_under_ids_of_their_stream(stream):
    for number in range(3):
        await stream.put(b"%d" % number)
    stream.close()
    assert await all_of(stream) == [("1-1", b"0"), ("1-2", b"1"), ("1-3", b"2")]


async def test_who_comes_back_has_what_it_missed(stream):
    for number in range(3):
        await stream.put(b"%d" % number)
    stream.close()
    assert [message for _, message in await all_of(stream, 2)] == [b"2"]
    assert [message for _, message in await all_of(stream, 99)] == []


async def test_who_comes_back_takes_over(stream, nursery):
    results = []

    async def read():
        results.append(await all_of(stream))

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    with stream.reading(0) as second:
        await stream.put(b"a")
        assert await stream.next(second) == ("1-1", b"a")
        await trio.testing.wait_all_tasks_blocked()
        assert results == [[]]
    assert stream.reader is None


async def test_while_a_client_reads_slowly_who_sends_waits_for_it(stream):
    with stream.reading(0) as reader:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_many, stream, KEPT + 10)
            await trio.testing.wait_all_tasks_blocked()
            got = [await stream.next(reader) for _ in range(KEPT + 10)]
    assert [int(message) for _, message in got] == list(range(KEPT + 10))


async def test_while_nobody_reads_the_oldest_go(stream):
    await put_many(stream, KEPT + 10)
    stream.close()
    got = await all_of(stream)
    assert (len(got), got[0]) == (KEPT, ("1-11", b"10"))


async def put_many(stream, count):
    for number in range(count):
        await stream.put(b"%d" % number)


async def test_the_only_message_of_a_finished_stream_is_the_answer(stream):
    assert stream.the_answer() is None
    await stream.put(b"a")
    assert stream.the_answer() is None
    stream.close()
    assert stream.the_answer() == b"a"
    assert stream.the_answer() is None


async def test_a_reader_that_is_cancelled_leaves_the_rest_for_the_next(stream):
    with trio.move_on_after(0):
        await all_of(stream)
    await stream.put(b"a")
    stream.close()
    assert await all_of(stream) == [("1-1", b"a")]


async def test_streams_are_found_by_the_ids_of_their_messages():
    streams = Streams(most=2)
    named = [streams.open() for _ in range(5)]
    assert streams.find("3-7") == (named[2], 7)
    assert streams.find("0-1") == (streams.alone, 1)
    for stream in named:
        stream.close()
    streams.open()
    assert streams.find("1-1") is None
    assert streams.find("5-1") == (named[4], 1)
    for nonsense in ("", "1", "x-1", "0-", "0-x", "0--1", "0-1-1", "99-1"):
        assert streams.find(nonsense) is None


async def test_closing_all_wakes_who_reads(nursery):
    streams = Streams()
    done = []

    async def read():
        done.append(await all_of(streams.alone))

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    streams.close()
    await trio.testing.wait_all_tasks_blocked()
    assert done == [[]]
