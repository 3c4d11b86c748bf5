import math

import numpy as np
import pytest

from petseg.proposals.pyramid import PyramidOptions, plan_levels


@pytest.mark.parametrize("sides", [(375, 500), (500, 375), (40, 333), (1, 1), (33, 2000)])
@pytest.mark.parametrize("stride_share", [1 / 7, 0.3])
def test_every_object_is_near_the_middle_of_a_window_at_a_fitting_scale(sides, stride_share):
    options = PyramidOptions(64, 0.6, stride_share, 5)
    levels = plan_levels(*sides, options)
    assert len(levels) == 5
    rng, longest = np.random.default_rng(0), max(sides)
    for _ in range(200):
        object_px = longest * 2 ** -rng.uniform(0, 2)
        centre = rng.random(2) * sides
        fits = []
        for level in levels:
            scale = np.array(level.sides) / sides
            octaves = math.log2(object_px * level.sides[np.argmax(sides)] / longest / (0.6 * 64))
            off = np.abs(level.corners + 32 - centre * scale).max(1).min()
            fits.append((abs(octaves), off))
        octaves, off = min(fits)
        # The greatest side is rounded to whole pixels, and so are the windows' corners.
        assert octaves <= 0.25 + 0.05
        assert off <= 0.5 * stride_share * 64 + 1


def test_the_number_of_windows_grows_with_the_square_of_the_scale():
    counts = [len(level.corners) for level in plan_levels(375, 500, PyramidOptions(64, 0.6, 0.1))]
    assert counts == sorted(counts) and 12 < counts[-1] / counts[0] < 20
