"""What holds for all tests."""

from hypothesis import settings

# How long an example takes says more about the machine than about us; pytest-timeout has the last word.
settings.register_profile("flexload", deadline=None)
settings.load_profile("flexload")
