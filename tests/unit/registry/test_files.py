import os
import stat

import pytest

from trillm.errors import ConfigError
from trillm.registry import files

posix = pytest.mark.skipif(os.name == "nt", reason="permissions and links as POSIX has them")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "servers.json"


def put(path, data):
    with files.locked(path):
        files.replace(path, data)


def test_a_file_that_is_not_there_reads_as_none(path):
    assert files.read(path) is None


def test_the_previous_version_is_kept(path):
    put(path, b"1")
    assert not files.backup(path).exists()
    put(path, b"2")
    put(path, b"3")
    assert files.read(path) == b"3"
    assert files.backup(path).read_bytes() == b"2"


def test_the_folder_is_made_when_it_is_not_there(tmp_path):
    path = tmp_path / "a" / "b" / "servers.json"
    put(path, b"1")
    assert files.read(path) == b"1"


@posix
def test_only_the_owner_can_read_any_of_it(path):
    path.write_bytes(b"0")
    path.chmod(0o644)
    put(path, b"1")
    put(path, b"2")
    for each in (path, files.backup(path)):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600


def test_nothing_else_is_left_behind(path):
    put(path, b"1")
    put(path, b"2")
    assert {each.name for each in path.parent.iterdir()} == {
        "servers.json",
        "servers.json.bak",
        "servers.json.lock",
    }


def test_what_a_killed_writer_left_does_not_hinder_the_next(path):
    path.with_name("servers.json.tmp").write_bytes(b"half")
    put(path, b"1")
    assert files.read(path) == b"1"


@posix
def test_a_link_is_followed_and_stays_a_link(tmp_path):
    real = tmp_path / "dotfiles" / "real.json"
    real.parent.mkdir()
    real.write_bytes(b"1")
    link = tmp_path / "servers.json"
    link.symlink_to(real)
    put(link, b"2")
    assert link.is_symlink()
    assert real.read_bytes() == b"2"
    assert files.backup(link) == real.with_name("real.json.bak")
    assert {each.name for each in tmp_path.iterdir()} == {"dotfiles", "servers.json"}


@posix
def test_a_link_to_nowhere_is_filled(tmp_path):
    link = tmp_path / "servers.json"
    link.symlink_to(tmp_path / "later.json")
    assert files.read(link) is None
    put(link, b"1")
    assert (tmp_path / "later.json").read_bytes() == b"1"


@posix
def test_a_loop_of_links_is_said(tmp_path):
    link = tmp_path / "servers.json"
    link.symlink_to(link)
    with pytest.raises(ConfigError, match=r"servers\.json"):
        files.read(link)


def test_a_folder_in_the_place_of_the_file_is_said(path):
    path.mkdir()
    with pytest.raises(ConfigError, match=r"servers\.json: .*irectory"):
        files.read(path)


@posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() != 0, reason="only root may give files away")
def test_root_does_not_take_the_file_away_from_its_owner(path):
    put(path, b"1")
    os.chown(path, 12345, 12345)
    put(path, b"2")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)
    assert files.backup(path).stat().st_uid == 12345


@posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_refuses_is_said(path):
    path.parent.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"), files.locked(path):
        pass


def test_a_failed_write_leaves_everything_as_it_was(path, monkeypatch):
    put(path, b"1")
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(ConfigError, match="No space left"):
        put(path, b"2")
    assert files.read(path) == b"1"


def test_two_holders_of_one_lock_wait_for_each_other_only_so_long(path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0.1)
    with files.locked(path), pytest.raises(ConfigError) as caught, files.locked(path):
        pass
    assert caught.value.where == str(path)
    assert caught.value.problem == "locked by another process for 0.1 s now"


def test_a_change_that_fails_frees_the_lock(path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0.1)
    with pytest.raises(ZeroDivisionError), files.locked(path):
        1 / 0  # noqa: B018  # any exception will do
    put(path, b"1")


def _no_space(_descriptor):
    raise OSError(28, "No space left on device")
