"""Lines through points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

fits = pytest.importorskip("benchmarks.fits", reason="the benchmarks are not installed")

NUMBERS = st.floats(-1e3, 1e3)


@given(NUMBERS, NUMBERS, st.lists(st.integers(0, 2000), min_size=2, max_size=8, unique=True))
def test_points_of_a_line_give_that_line(slope, intercept, xs):
    fit = fits.Fit.of(xs, [intercept + slope * x for x in xs])

    assert fit.slope == pytest.approx(slope, abs=1e-6)
    assert fit.intercept == pytest.approx(intercept, abs=1e-3)
    assert fit.first == pytest.approx(intercept + slope * min(xs), abs=1e-3)
    assert fit.last == pytest.approx(intercept + slope * max(xs), abs=1e-3)


def test_growth_is_the_share_that_the_line_gains_between_the_ends():
    assert fits.Fit.of([50, 2000], [30.0, 36.0]).growth == pytest.approx(0.2)


def test_scatter_that_no_line_explains_is_said_so():
    assert fits.Fit.of([0, 1, 2, 3], [1, -1, -1, 1]).explained == pytest.approx(0)
    assert fits.Fit.of([0, 1, 2], [5, 5, 5]).explained == 1.0


def test_growth_from_nothing_has_no_meaning():
    assert fits.Fit.of([0, 1], [0.0, 5.0]).growth is None
