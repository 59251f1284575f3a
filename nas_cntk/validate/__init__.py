"""Validation: the finite twin of an architecture, trained the usual way."""
