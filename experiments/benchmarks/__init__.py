"""Benchmarks: the same work done by fedmodel and by its peers, side by side on one machine."""
