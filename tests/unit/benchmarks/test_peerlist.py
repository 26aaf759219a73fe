"""How peers are started: their configurations are whole, and one that chooses its own port is found."""

import pytest

pytest.importorskip("benchmarks.peerlist", reason="the benchmarks are not installed")

from benchmarks import install
from benchmarks.peer import Setting
from benchmarks.peerlist import LANE, PEERS
from trillm.bench.asks import Target


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_told_where_to_listen_and_whom_to_ask(peer, tmp_path):
    setting = Setting(tmp_path, 12345, "http://127.0.0.1:54321")
    started = peer.prepare(tmp_path / "program", setting)

    written = "".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
    headers = "" if callable(started.target) else " ".join(started.target.headers.values())
    assert "127.0.0.1:54321" in f"{written} {headers} {' '.join(started.arguments)}"
    assert "$" not in written
    if isinstance(started.target, Target):
        assert started.target.url == "http://127.0.0.1:12345"
        assert "12345" in f"{written} {' '.join(started.arguments)}"


def test_a_peer_that_chooses_its_own_port_is_found_once_it_has_said_so(tmp_path):
    (tensorzero,) = (peer for peer in PEERS if peer.name == "tensorzero")
    find = tensorzero.prepare(tmp_path, Setting(tmp_path, 1, "http://127.0.0.1:2")).target

    assert find("INFO starting\n") is None
    found = find("INFO starting\nlistening on http://127.0.0.1:345/openai/v1\n")
    assert (found.url, found.base) == ("http://127.0.0.1:345/openai/v1", "/openai/v1")


def test_what_is_pinned_says_its_version_and_what_is_special_a_word():
    assert all(peer.version or peer.tells_version or peer.name in (LANE, "trillm, app face", "naive") for peer in PEERS)
    assert all(peer.note for peer in PEERS if peer.optional)


def test_an_installation_that_broke_off_or_is_of_another_version_is_made_anew(tmp_path):
    said, outcomes = [], iter([False, True, True])

    def there(requirement: str) -> bool:
        return install.is_there(tmp_path, requirement, lambda: next(outcomes), said.append)

    assert [there("p==1"), there("p==1"), there("p==1"), there("p==2")] == [False, True, True, True]
    assert said == ["installing p==1", "installing p==1", "installing p==2"]
