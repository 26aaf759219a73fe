import functools
import json
import logging
import math
import os

import pytest
import trio

from trillm.registry.registry import Registry, RegistryLoaded, RegistryRejected, ServerAdded
from trillm.registry.store import Store
from trillm.registry.watch import LOOK_EVERY_S, serve_registry

WITHIN_S = 1.0
posix = pytest.mark.skipif(os.name == "nt", reason="links as POSIX has them")


class Watched:
    """A registry that is being followed, and the events it published."""

    def __init__(self, path, nursery):
        self.store = Store(path)
        self.registry = Registry(self.store)
        self.nursery = nursery
        self.send, self.events = trio.open_memory_channel(math.inf)

    async def start(self):
        await self.nursery.start(functools.partial(serve_registry, self.registry, self.send.send_nowait))

    async def shows(self, *names):
        """Wait until exactly these servers are there: within the second that is promised."""
        with trio.fail_after(WITHIN_S):
            while list(self.registry.snapshot.document.servers) != list(names) or self.registry.snapshot.error:
                await self.events.receive()

    async def rejects(self):
        with trio.fail_after(WITHIN_S):
            while not isinstance(event := await self.events.receive(), RegistryRejected):
                pass
        return event.error


@pytest.fixture
async def watched(tmp_path, nursery):
    watched = Watched(tmp_path / "servers.json", nursery)
    with watched.send, watched.events:
        yield watched
        nursery.cancel_scope.cancel()


def text(*names):
    return json.dumps({"servers": {name: {"url": f"http://{name}.example"} for name in names}})


def rename_over(path, content):
    path.with_name("new").write_text(content)
    path.with_name("new").replace(path)


async def test_the_first_snapshot_stands_when_it_has_started(watched):
    watched.store.path.write_text(text("a"))
    await watched.start()
    assert list(watched.registry.snapshot.document.servers) == ["a"]
    assert isinstance(watched.events.receive_nowait(), ServerAdded)
    assert isinstance(watched.events.receive_nowait(), RegistryLoaded)


async def test_edits_in_place_are_followed(watched):
    watched.store.path.write_text(text("a"))
    await watched.start()
    for names in (["a", "b"], ["b"], []):
        watched.store.path.write_text(text(*names))
        await watched.shows(*names)


async def test_renames_over_the_file_are_followed_again_and_again(watched):
    watched.store.path.write_text(text("a"))
    await watched.start()
    for names in (["b"], ["a"], ["b"]):
        rename_over(watched.store.path, text(*names))
        await watched.shows(*names)


async def test_a_file_and_a_folder_that_come_later_are_followed(tmp_path, nursery):
    watched = Watched(tmp_path / "not" / "yet" / "servers.json", nursery)
    with watched.send, watched.events:
        await watched.start()
        watched.store.path.parent.mkdir(parents=True)
        watched.store.path.write_text(text("a"))
        await watched.shows("a")
        nursery.cancel_scope.cancel()


async def test_a_file_that_was_deleted_and_made_anew_is_followed(watched):
    watched.store.path.write_text(text("a"))
    await watched.start()
    watched.store.path.unlink()
    assert "is gone" in await watched.rejects()
    watched.store.path.write_text(text("b"))
    await watched.shows("b")


async def test_an_editor_that_moves_the_file_away_first_is_not_taken_for_a_deletion(watched, autojump_clock):
    watched.store.path.write_text(text("a"))
    await watched.start()
    await trio.sleep(LOOK_EVERY_S - 0.01)
    watched.store.path.unlink()
    await trio.sleep(0.05)
    watched.store.path.write_text(text("b"))
    await watched.shows("b")
    assert watched.registry.snapshot.revision == 2


@posix
async def test_the_target_of_a_link_and_the_link_itself_are_followed(watched, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first, second = tmp_path / "elsewhere" / "1.json", tmp_path / "elsewhere" / "2.json"
    first.write_text(text("a"))
    second.write_text(text("b"))
    watched.store.path.symlink_to(first)
    await watched.start()
    rename_over(first, text("c"))
    await watched.shows("c")
    (tmp_path / "link").symlink_to(second)
    (tmp_path / "link").replace(watched.store.path)
    await watched.shows("b")


@posix
async def test_a_mounted_config_map_that_swaps_its_data_is_followed(watched, tmp_path):
    def mount(version, *names):
        (tmp_path / version).mkdir()
        (tmp_path / version / "servers.json").write_text(text(*names))
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    mount("..2026_01", "a")
    watched.store.path.symlink_to("..data/servers.json")
    await watched.start()
    for month, name in enumerate("bcb"):
        mount(f"..2027_{month}", name)
        await watched.shows(name)


async def test_a_broken_edit_is_logged_and_the_next_good_one_followed(watched, caplog):
    watched.store.path.write_text(text("a"))
    await watched.start()
    watched.store.path.write_text(text("a", "b")[:-1])
    error = await watched.rejects()
    assert list(watched.registry.snapshot.document.servers) == ["a"]
    assert [record.args for record in caplog.records if record.levelno == logging.ERROR] == [(error,)]
    watched.store.path.write_text(text("a", "b"))
    await watched.shows("a", "b")


@posix
async def test_a_copy_that_kept_size_and_time_of_the_original_is_noticed(watched):
    watched.store.path.write_text(text("a"))
    before = watched.store.path.stat()
    await watched.start()
    watched.store.path.write_text(text("b"))
    os.utime(watched.store.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await watched.shows("b")


@posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may read anything")
async def test_permissions_that_are_mended_are_noticed(watched):
    watched.store.path.write_text(text("a"))
    watched.store.path.chmod(0)
    await watched.start()
    assert "Permission denied" in await watched.rejects()
    watched.store.path.chmod(0o600)
    await watched.shows("a")


async def test_a_key_made_by_another_process_is_followed(watched):
    await watched.start()
    token = watched.store.keys.create("laptop")
    with trio.fail_after(WITHIN_S):
        while not watched.registry.snapshot.keyring:
            await watched.events.receive()
    assert watched.registry.snapshot.keyring.find(token)


async def test_a_file_that_never_stands_still_is_followed_all_the_same(watched):
    await watched.start()
    with trio.move_on_after(3 * WITHIN_S) as scope:
        for count in range(10_000):
            rename_over(watched.store.path, text(*(f"s{i}" for i in range(count % 7))))
            await trio.sleep(0.01)
            if watched.registry.snapshot.revision > 4:
                break
    assert not scope.cancelled_caught


async def test_it_stops_at_once_when_cancelled(watched):
    await watched.start()
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_registry, watched.registry, watched.send.send_nowait)
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - before < 0.1
