"""Results become documentation: the newest of each kind, with its picture."""

import pytest

publish = pytest.importorskip("benchmarks.publish", reason="the benchmarks are not installed")


def test_the_newest_result_is_published_with_what_belongs_to_it(tmp_path):
    results, measured = tmp_path / "results", tmp_path / "docs" / "measured"
    results.mkdir()
    for stem in ("peers-2026-01-02-0300", "peers-2026-01-10-0200"):
        for suffix in (".md", ".json", ".svg"):
            (results / stem).with_suffix(suffix).write_text(stem)
    assert publish.publish("peers", results, measured)
    assert {path.name: path.read_text() for path in measured.iterdir()} == dict.fromkeys(
        ["peers.md", "peers.json", "peers.svg"], "peers-2026-01-10-0200"
    )


def test_what_was_never_measured_leaves_what_was_published_as_it_is(tmp_path):
    (tmp_path / "scale.md").write_text("earlier")
    assert not publish.publish("scale", tmp_path / "results", tmp_path)
    assert (tmp_path / "scale.md").read_text() == "earlier"


def test_all_that_was_published_is_gathered_with_its_pictures(tmp_path):
    measured = tmp_path / "measured"
    measured.mkdir()
    (measured / "memory.md").write_text("# Memory\n\nflat\n")
    (measured / "peers.md").write_text("# Peers\n\ntable\n")
    (measured / "peers.svg").touch()
    publish.gather(measured)
    assert (measured / "all.md").read_text() == (
        "# Peers\n\n![Peers](measured/peers.svg)\n\ntable\n\n# Memory\n\nflat\n"
    )
