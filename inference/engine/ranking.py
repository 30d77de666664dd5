"""The largest of many values without sorting them all. Knows no tokens."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_MOST_ROWS: Final = 64
_COLUMNS_PER_WANTED: Final = 4


def strongest(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.signedinteger[Any]]:
    """Return the indices of the `count` (at least 1) largest values, the largest first.

    Equal values keep their order. Minus infinity and NaN are never among them, so there may be
    fewer.
    """
    least = _lower_bound(values, count)
    found = np.flatnonzero(values >= least if least > -np.inf else values > -np.inf)
    order = np.argsort(-values[found], kind="stable")
    return found[order[:count]]


def _lower_bound(values: npt.NDArray[np.float32], count: int) -> float:
    """Return a value that at least `count` of them reach.

    The values are laid out in columns; every column's maximum is one of them, so the maximum that
    ranks `count`-th among the columns will do. One pass over the values, and numpy's fastest.
    """
    rows = min(_MOST_ROWS, values.size // (_COLUMNS_PER_WANTED * count))
    if rows <= 1:
        return -np.inf
    columns = values.size // rows
    maxima = np.maximum.reduce(values[: rows * columns].reshape(rows, columns))
    return float(np.partition(maxima, columns - count)[columns - count])
