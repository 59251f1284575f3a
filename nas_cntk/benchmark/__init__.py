"""Benchmarks: how well scores rank architectures whose trained accuracies are known."""
