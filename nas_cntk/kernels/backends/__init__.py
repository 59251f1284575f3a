"""The programs that compute kernels: one module a backend."""
