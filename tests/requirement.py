"""What a test needs of the machine it runs on."""

import os
from typing import NoReturn

import pytest


def missing(name: str, reason: str) -> NoReturn:
    """Skip this test, or fail it where the environment demands what is missing.

    FLEXLOAD_REQUIRE lists, by commas, what this machine must have (`cgroup`, `gcc`, ...; `all` for
    everything), so that a continuous-integration machine cannot skip its way to green.
    """
    demanded = {word.strip() for word in os.environ.get("FLEXLOAD_REQUIRE", "").split(",")}
    if demanded & {name, "all"}:
        pytest.fail(f"required here, but missing: {name}: {reason}")
    pytest.skip(f"{name}: {reason}")
