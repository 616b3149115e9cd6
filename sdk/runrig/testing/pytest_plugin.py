"""Fixtures for tests on a real or simulated cluster (filled by `runrig.testing`)."""
