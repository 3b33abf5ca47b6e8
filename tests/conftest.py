"""What the Python tests share: the double reference, random numbers, and hypothesis without a clock and without chance."""
import os
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "ref"))

try:
    import hypothesis
except ImportError:
    pass
else:
    hypothesis.settings.register_profile(
        "attn", deadline=None, derandomize=True, database=None,
        max_examples=100 * int(os.environ.get("ATTN_TEST_ROUNDS", "1")),
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large])
    hypothesis.settings.load_profile("attn")


@pytest.fixture
def rng():
    return np.random.default_rng(1)
