"""Checks of op parameters, shared by the op files."""

from __future__ import annotations

from nas_cntk.errors import ArchitectureError, IllegalArchitecture

Shape = tuple[int, ...]  # (h, w) of a map of positions; () of a vector of features

LARGEST = 1023  # of any kernel, size or stride


def whole(name: str, value: object) -> None:
    """Refuse anything but a whole number from 1 to `LARGEST`.

    Raises:
        ArchitectureError: with the name and the value received.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArchitectureError(f"{name} must be a whole number, got {_short(value)}")
    if not 1 <= value <= LARGEST:
        raise ArchitectureError(f"{name} must be from 1 to {LARGEST}, got {_short(value)}")


def odd(name: str, value: int) -> None:
    """Refuse an even number.

    Raises:
        ArchitectureError: with the name and the value received.
    """
    if value % 2 == 0:
        raise ArchitectureError(f"{name} must be odd, so that its window has a centre, got {value}")


def flag(name: str, value: object) -> None:
    """Refuse anything but true or false.

    Raises:
        ArchitectureError: with the name and the value received.
    """
    if not isinstance(value, bool):
        raise ArchitectureError(f"{name} must be true or false, got {_short(value)}")


def map_shape(shapes: tuple[Shape, ...], op: str) -> Shape:
    """Return the common (h, w) of the inputs.

    Raises:
        IllegalArchitecture: if an input is a vector, or two maps differ in size.
    """
    first = shapes[0]
    for shape in shapes:
        if len(shape) != 2:
            raise IllegalArchitecture(f"{op} reads a vector of features; it must come before the head")
        if shape != first:
            raise IllegalArchitecture(
                f"{op} reads maps of different sizes, {first[0]}x{first[1]} and {shape[0]}x{shape[1]};"
                " bring them to one size with equal strides"
            )
    return first


def _short(value: object) -> str:
    # A whole number of thousands of digits has no repr at all (the interpreter refuses), and none is wanted here.
    if isinstance(value, int) and abs(value) > 10**20:
        return "a number of more than 20 digits"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
