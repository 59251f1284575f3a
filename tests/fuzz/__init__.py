"""Fuzzed inputs for everything that reads files: `make fuzz`, or a few of them in the ordinary tests.

Every module but these three is one reader: `mutations` spoils bytes and documents, `harness` counts what comes of it.
"""
