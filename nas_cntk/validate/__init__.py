"""Validation: the best architectures as trained CNNs and as full-dataset kernels, tested on the test set."""
