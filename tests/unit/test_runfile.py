"""The note a running server leaves for the command line."""

import json
import os
import stat

import pytest

from trillm.runfile import announced, run_file


def read(path):
    return json.loads(run_file(path).read_text())


def test_the_note_lies_beside_the_registry(tmp_path):
    assert run_file(tmp_path / "servers.json") == tmp_path / "servers.json.run"


def test_the_note_says_who_and_where_for_as_long_as_it_is_so(tmp_path):
    registry = tmp_path / "new" / "servers.json"
    with announced(registry, "http://127.0.0.1:8400", "s3cret"):
        assert read(registry) == {"pid": os.getpid(), "url": "http://127.0.0.1:8400", "token": "s3cret"}
    assert not run_file(registry).exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_the_note_is_for_this_account_alone(tmp_path):
    registry = tmp_path / "servers.json"
    run_file(registry).write_text("left behind, for everyone to read")
    run_file(registry).chmod(0o666)
    before = os.umask(0)
    try:
        with announced(registry, "http://127.0.0.1:1", "t"):
            assert stat.S_IMODE(run_file(registry).stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need privileges on Windows")
def test_a_link_in_its_place_is_not_followed(tmp_path):
    registry, victim = tmp_path / "servers.json", tmp_path / "victim"
    victim.write_text("precious")
    run_file(registry).symlink_to(victim)
    with announced(registry, "http://127.0.0.1:1", "t"):
        assert not run_file(registry).is_symlink()
    assert victim.read_text() == "precious"


def test_the_note_of_a_server_that_was_killed_is_replaced(tmp_path):
    registry = tmp_path / "servers.json"
    run_file(registry).write_text('{"pid": 1, "url": "http://127.0.0.1:1", "token": "old"}')
    with announced(registry, "http://127.0.0.1:2", "new"):
        assert read(registry)["token"] == "new"


@pytest.mark.parametrize("theirs", [b'{"pid": 1}', b"\xff"])
def test_another_servers_note_is_left_alone(tmp_path, theirs):
    registry = tmp_path / "servers.json"
    with announced(registry, "http://127.0.0.1:1", "t"):
        run_file(registry).write_bytes(theirs)
    assert run_file(registry).read_bytes() == theirs


def test_a_note_that_somebody_took_away_is_no_trouble(tmp_path):
    registry = tmp_path / "servers.json"
    with announced(registry, "http://127.0.0.1:1", "t"):
        run_file(registry).unlink()


def test_where_no_note_can_be_left_the_server_serves_all_the_same(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    registry = tmp_path / "file" / "servers.json"
    served = False
    with announced(registry, "http://127.0.0.1:1", "s3cret"):
        served = True
    assert served
    assert "the command line will not see this server" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_goes_wrong_inside_passes_and_the_note_goes(tmp_path):
    registry = tmp_path / "servers.json"
    with pytest.raises(LookupError) as caught, announced(registry, "http://127.0.0.1:1", "t"):
        raise LookupError
    assert caught.value.__context__ is None
    assert not run_file(registry).exists()
