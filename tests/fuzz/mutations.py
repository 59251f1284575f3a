"""Spoiling what was valid: bytes, text and documents, by a seeded generator."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

# Sizes and offsets as headers hold them, where programs forget to look.
EXTREMES = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"\x1b]0;x\x07\x1b[31m",
    b"<script>alert(1)</script>",
    b"'); DROP TABLE trials; --",
    b"../../../etc/passwd",
    b"%s%n%d",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",  # a surrogate, which UTF-8 has not
    b"\0",
    b"\r\n",
    b"9" * 400,
    b"1e999",
    b"NaN",
    b"-",
    b"[" * 3000,
    b'{"a":' * 1500,
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    1023,
    1024,
    2**31,
    2**64,
    10**30,
    10**400,
    0.0,
    -0.0,
    0.5,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "3",
    "conv",
    "\x1b[31m\x07\n",
    "<b>'\"%s</b>",
    "\u202e\ud800",
    "x" * 5000,
    [],
    {},
    [0],
    [[0]],
    {"op": "input"},
    {"nodes": []},
)


def spoiled_bytes(rng: Random, content: bytes, times: int | None = None) -> bytes:
    """Return bytes with one to four (or `times`) changes; where they are is drawn near both ends more often."""
    out = bytearray(content)
    for _ in range(times or rng.choice((1, 1, 1, 2, 2, 3, 4))):
        at = _place(rng, len(out))
        match rng.randrange(11):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del out[at:]  # truncated
            case 3:
                del out[at : at + _length(rng)]
            case 4:
                end = at + _length(rng)
                out[at:at] = out[at:end] * rng.choice((1, 1, 2, 50))  # a chunk doubled
            case 5:
                size = rng.choice((1, 2, 4, 4, 8))
                number = rng.choice(EXTREMES) % 2 ** (8 * size)
                out[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
            case 6:
                out[at:at] = rng.choice(WORDS)
            case 7:
                word = rng.choice(WORDS)
                out[at : at + len(word)] = word
            case 8:
                other, size = _place(rng, len(out)), _length(rng)
                out[at : at + size], out[other : other + size] = out[other : other + size], out[at : at + size]
            case 9:
                out += bytes(rng.randrange(256) for _ in range(_length(rng)))
            case _:
                out[at : at + 4] = bytes(rng.randrange(256) for _ in range(4))
    return bytes(out)


def spoiled_document(rng: Random, document: Any, odd: tuple[Any, ...] = ODD_VALUES) -> Any:
    """Return a copy of a document of JSON with one to three values replaced, left out, doubled, moved or nested."""
    root = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = _places(root)
        if not places:
            return rng.choice(odd)
        holder, name = rng.choice(places)
        value = holder[name]
        match rng.randrange(9):
            case 0:
                del holder[name]
            case 1:
                holder[name] = copy.deepcopy(rng.choice(odd))
            case 2 if isinstance(value, (int, float)) and not isinstance(value, bool):
                holder[name] = rng.choice(
                    (value + 1, value - 1, -value, value * 2, float(value % 2**64), str(value % 2**64))
                )
            case 3 if isinstance(holder, list):
                holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(value))
            case 3:
                holder[rng.choice(("op", "inputs", "nodes", f"{name} ", f"{name}".upper()))] = copy.deepcopy(value)
            case 4:
                other, its = rng.choice(_places(root))
                if its in (other if isinstance(other, dict) else range(len(other))):
                    taken = copy.deepcopy(other[its])
                    other[its], holder[name] = copy.deepcopy(value), taken
            case 5 if isinstance(value, list):
                value.reverse()
            case 6:
                for _ in range(rng.choice((1, 2, 40))):
                    value = [value] if rng.random() < 0.5 else {"nodes": value}
                holder[name] = value
            case 7 if isinstance(value, (str, list)):
                holder[name] = value * rng.choice((0, 2, 100))
            case _:
                holder[name] = copy.deepcopy(rng.choice(odd))
    return root


def _places(root: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) below the root."""
    found: list[tuple[Any, Any]] = []
    todo = [root]
    while todo:
        holder = todo.pop()
        names = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for name in names:
            found.append((holder, name))
            todo.append(holder[name])
    return found


def _place(rng: Random, size: int) -> int:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randrange(min(size, 64) + 1)  # a header
    if kind == 1:
        return max(0, size - rng.randrange(min(size, 64) + 1))  # a directory at the end
    return rng.randrange(size + 1)


def _length(rng: Random) -> int:
    return rng.choice((1, 1, 2, 3, 4, 8, 16, rng.randrange(1, 200)))
