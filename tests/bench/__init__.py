"""Benchmarks: `make bench`. docs/benchmarks.md says what each measures and what it is compared with."""
