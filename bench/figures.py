"""The statistics of the measurements. Pure functions; knows nothing of servers or units."""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, interpolated between neighbours. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    """Return the value in the middle. Raises ValueError without values."""
    return percentile(values, 50)


def jain(values: Sequence[float]) -> float:
    """Return Jain's fairness index: 1 where all are equal, 1/n where one has everything.

    Raises ValueError where nobody has anything.
    """
    squares = sum(value * value for value in values)
    if squares == 0:
        raise ValueError("nobody has anything")
    return sum(values) ** 2 / (len(values) * squares)


def fair_shares(capacity: float, demands: Sequence[float]) -> list[float]:
    """Return the max-min fair division of a capacity, in the order of the demands.

    Nobody gets more than they ask for; what the modest leave is divided among the others.
    """
    shares = [0.0] * len(demands)
    left = capacity
    by_demand = sorted(range(len(demands)), key=lambda index: demands[index])
    for served, index in enumerate(by_demand):
        shares[index] = min(demands[index], left / (len(demands) - served))
        left -= shares[index]
    return shares


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the least-squares rise of y per x. Raises ValueError without two different xs."""
    middle_x = sum(xs) / len(xs) if xs else 0.0
    middle_y = sum(ys) / len(ys) if ys else 0.0
    spread = sum((x - middle_x) ** 2 for x in xs)
    if spread == 0:
        raise ValueError("two different xs are needed")
    pairs = zip(xs, ys, strict=True)
    return sum((x - middle_x) * (y - middle_y) for x, y in pairs) / spread
