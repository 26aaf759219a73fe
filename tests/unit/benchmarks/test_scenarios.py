"""What is asked says the pace in words that the upstream understands."""

import pytest

pytest.importorskip("benchmarks.scenarios", reason="the benchmarks are not installed")

from benchmarks.scenarios import FULL, IMAGE, Pace, chosen, streamed
from benchmarks.upstream import PACE, token_of
from trillm.bench.asks import Target

TARGET = Target("http://127.0.0.1:1", "bench")


def test_the_upstream_finds_the_pace_in_the_request():
    (ask,) = streamed(50, gap_ms=7).asks(TARGET)

    assert ask.streamed
    said = PACE.search(ask.raw)
    assert said is not None
    assert said.groups() == (b"7", b"64", b"0")
    assert PACE.fullmatch(str(Pace(1, 2, 3)).encode())


def test_an_image_is_as_large_as_it_says():
    (ask,) = IMAGE.asks(TARGET)

    assert IMAGE.image_bytes < len(ask.raw) < IMAGE.image_bytes + 2_000


@pytest.mark.parametrize("wanted", [1_000, 16_000])
def test_a_frame_is_padded_to_its_size(wanted):
    size, _, event = token_of(wanted).partition(b"\r\n")

    assert int(size, 16) == len(event) - 2 == pytest.approx(wanted, abs=8)


def test_scenarios_are_chosen_by_how_their_names_begin():
    assert [each.name for each in chosen(["plain", "image"], FULL)] == [
        *("plain 1", "plain 50", "image 20 MB", "plain 200", "plain 1000"),
    ]
    assert chosen([], FULL) == list(FULL)
