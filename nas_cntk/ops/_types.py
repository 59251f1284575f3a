"""Types that the op files share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tensor = Any  # torch.Tensor; torch is imported where it is used
