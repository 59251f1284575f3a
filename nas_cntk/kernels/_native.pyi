from typing import Any

from numpy.typing import NDArray

class Program:
    def __init__(self, integers: NDArray[Any], reals: NDArray[Any]) -> None: ...

def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def burn(rounds: int) -> float: ...
def variances(program: Program, images: NDArray[Any], first: int, last: int, maps: NDArray[Any]) -> None: ...
def tile(
    program: Program,
    x1: NDArray[Any],
    maps1: NDArray[Any],
    row_first: int,
    row_last: int,
    x2: NDArray[Any],
    maps2: NDArray[Any],
    first: int,
    last: int,
    out: NDArray[Any],
) -> None: ...
