"""The hub: who hears of an event, and what a slow or broken listener costs the others (nothing)."""

import logging
from functools import partial

import pytest
import trio
import trio.testing
from attrs import frozen

from trillm.hub import Hub, WhenFull


@frozen
class Happened:
    number: int
    secret: str = "hunter2"


@frozen
class HappenedHere(Happened):
    pass


@frozen
class SomethingElse:
    pass


async def settle():
    await trio.testing.wait_all_tasks_blocked()


async def test_an_event_reaches_who_listens_for_its_type(nursery):
    hub, heard, both = Hub(), [], []
    hub.on(Happened)(heard.append)
    hub.on(Happened, SomethingElse)(both.append)
    await nursery.start(hub.serve)
    for event in (Happened(1), SomethingElse(), HappenedHere(2)):
        hub.publish(event)
    await settle()
    assert heard == [Happened(1), HappenedHere(2)]
    assert both == [Happened(1), SomethingElse(), HappenedHere(2)]


async def test_a_decorated_function_stays_what_it_was(nursery):
    hub, heard = Hub(), []
    await nursery.start(hub.serve)

    @hub.on(Happened)
    async def listener(event):
        heard.append(event)

    await listener(Happened(0))
    hub.publish(Happened(1))
    await settle()
    assert heard == [Happened(0), Happened(1)]


async def test_who_subscribes_before_the_start_hears_what_was_published_before_it(nursery):
    hub, heard = Hub(), []
    hub.subscribe(heard.append, Happened)
    hub.publish(Happened(1))
    assert heard == []
    await nursery.start(hub.serve)
    await settle()
    assert heard == [Happened(1)]


async def test_who_subscribes_later_hears_what_comes_later(nursery):
    hub, heard = Hub(), []
    await nursery.start(hub.serve)
    hub.publish(Happened(1))
    hub.subscribe(heard.append, Happened)
    hub.publish(Happened(2))
    await settle()
    assert heard == [Happened(2)]


async def test_a_listener_may_subscribe_and_publish(nursery):
    hub, heard = Hub(), []
    await nursery.start(hub.serve)

    @hub.on(Happened)
    def listener(event):
        hub.subscribe(heard.append, SomethingElse)
        hub.publish(SomethingElse())

    hub.publish(Happened(1))
    await settle()
    assert heard == [SomethingElse()]


async def test_a_slow_listener_delays_neither_the_publisher_nor_the_others(autojump_clock, nursery):
    hub, quick, slow = Hub(), [], []

    @hub.on(Happened)
    async def take_a_minute(event):
        await trio.sleep(60)
        slow.append((trio.current_time(), event.number))

    hub.subscribe(quick.append, Happened)
    await nursery.start(hub.serve)
    for number in range(3):
        hub.publish(Happened(number))
    assert trio.current_time() == 0
    await trio.sleep(1)
    assert [event.number for event in quick] == [0, 1, 2]
    await trio.sleep(200)
    assert slow == [(60, 0), (120, 1), (180, 2)]


@pytest.mark.parametrize(
    ("when_full", "delivered", "lost"),
    [
        (WhenFull.COALESCE, [0, 9], 8),
        (WhenFull.DROP, [0, 1, 2], 7),
        (WhenFull.CUT, [0, 1, 2], 1),
    ],
)
async def test_a_full_channel_does_as_its_subscriber_wished(nursery, when_full, delivered, lost):
    hub, heard, go_on = Hub(), [], trio.Event()

    async def blocked(event):
        heard.append(event.number)
        await go_on.wait()

    subscription = hub.subscribe(blocked, Happened, when_full=when_full, size=2)
    await nursery.start(hub.serve)
    hub.publish(Happened(0))
    await settle()  # the first is being worked on, two may wait
    for number in range(1, 10):
        hub.publish(Happened(number))
    go_on.set()
    await settle()
    assert heard == delivered
    assert subscription.lost == lost
    hub.publish(Happened(10))
    await settle()
    assert (heard[-1] == 10) is (when_full is not WhenFull.CUT)


async def test_a_listener_that_is_cut_is_named(nursery, caplog):
    hub = Hub()

    def keeper_of_the_books(event): ...

    hub.subscribe(keeper_of_the_books, Happened, when_full=WhenFull.CUT, size=1)
    hub.publish(Happened(1))
    hub.publish(Happened(2))
    assert "subscriber cut" in caplog.text
    assert "keeper_of_the_books" in caplog.text


async def test_coalescing_works_before_the_start_too(nursery):
    hub, heard = Hub(), []
    hub.subscribe(heard.append, Happened, when_full=WhenFull.COALESCE, size=1)
    for number in range(5):
        hub.publish(Happened(number))
    await nursery.start(hub.serve)
    await settle()
    assert heard == [Happened(4)]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_broken_listener_is_logged_and_goes_on(nursery, caplog, asynchronous):
    hub, heard = Hub(), []

    def broken(event):
        heard.append(event.number)
        raise ValueError("no luck")

    async def broken_later(event):
        await trio.lowlevel.checkpoint()
        broken(event)

    hub.subscribe(broken_later if asynchronous else broken, Happened)
    await nursery.start(hub.serve)
    hub.publish(Happened(1))
    hub.publish(Happened(2))
    await settle()
    assert heard == [1, 2]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "broken" in caplog.text
    assert "no luck" in caplog.text
    assert "hunter2" not in caplog.text  # what an event carries is not the log's business


async def test_a_listener_without_a_name_can_be_logged(nursery, caplog):
    hub = Hub()
    hub.subscribe(partial(int, base=10), Happened)
    await nursery.start(hub.serve)
    hub.publish(Happened(1))
    await settle()
    assert "functools.partial" in caplog.text


async def test_a_closed_subscription_gets_what_waits_and_nothing_more(nursery):
    hub, heard = Hub(), []
    subscription = hub.subscribe(heard.append, Happened)
    hub.publish(Happened(1))
    subscription.close()
    hub.publish(Happened(2))
    await nursery.start(hub.serve)
    await settle()
    assert heard == [Happened(1)]
    hub.publish(Happened(3))
    await settle()
    assert heard == [Happened(1)]


async def test_a_listener_may_close_its_own_subscription(nursery):
    hub, heard = Hub(), []

    def once(event):
        heard.append(event)
        subscription.close()
        subscription.close()

    subscription = hub.subscribe(once, Happened)
    await nursery.start(hub.serve)
    hub.publish(Happened(1))
    await settle()
    hub.publish(Happened(2))
    await settle()
    assert heard == [Happened(1)]


@pytest.mark.parametrize("when_full", WhenFull)
async def test_publishing_after_the_hub_has_stopped_reaches_nobody_and_hurts_nobody(when_full):
    hub, heard = Hub(), []
    hub.subscribe(heard.append, Happened, when_full=when_full, size=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.serve)
        nursery.cancel_scope.cancel()
    for number in range(3):
        hub.publish(Happened(number))
    assert heard == []


async def test_stopping_the_hub_cancels_a_listener_at_work():
    hub, ended = Hub(), []

    @hub.on(Happened)
    async def listener(event):
        try:
            await trio.sleep_forever()
        finally:
            hub.publish(SomethingElse())  # as modules do while the program stops
            ended.append(event)

    hub.subscribe(ended.append, SomethingElse)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.serve)
        hub.publish(Happened(1))
        await settle()
        nursery.cancel_scope.cancel()
    assert ended == [Happened(1)]


async def test_a_channel_needs_room_for_one_event():
    with pytest.raises(ValueError, match="size"):
        Hub().subscribe(print, Happened, size=0)
