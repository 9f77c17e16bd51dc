"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# A busy machine is no failure: no example is timed, and slow draws are not held against a test.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
