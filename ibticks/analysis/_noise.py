"""How noisy prices are, and a first guess at their variance without the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ibticks.analysis._sampling import Sampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["noise_variance", "pilot_variance"]

_MINUTE: Final = 60_000_000_000


def noise_variance(at: NDArray[np.int64], log: NDArray[np.float64]) -> float:
    r"""The variance of the noise in log prices, from prices about two minutes apart.

    :math:`\hat\omega^2 = RV / 2n` where n counts the returns that are not zero, over the prices of
    each q-th tick, pooled over the q first ticks to begin with. With q such that they are two
    minutes apart on the average, what is left of serial dependence in noise does not disturb it;
    half the variance of two minutes is in it, so that a bandwidth errs to the wide side.

    Parameters
    ----------
    at : numpy.ndarray of int64, shape (n,)
        Nanoseconds.
    log : numpy.ndarray of float64, shape (n,)
        Log prices.

    References
    ----------
    O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard, Realized kernels in practice,
    *Econometrics Journal* 12 (2009), C1-C32.

    Examples
    --------
    >>> at = np.arange(5) * 120_000_000_000
    >>> noise_variance(at, np.array([0.0, 0.5, 0.0, 0.5, 0.5]))
    0.125
    """
    if len(log) < 2:
        return 0.0
    minutes = max(1, int(at[-1] - at[0]) // (2 * _MINUTE))
    q = max(1, (len(log) - 1) // minutes)
    moves = log[q:] - log[:-q]
    moved = np.count_nonzero(moves)
    return float(moves @ moves / (2 * moved)) if moved else 0.0


def pilot_variance(at: NDArray[np.int64], log: NDArray[np.float64]) -> float:
    """A first guess at the variance without noise: returns of twenty minutes, at each second.

    Where there are less than 200 minutes, a tenth of the time takes the place of twenty minutes.

    Parameters
    ----------
    at, log
        As in :func:`noise_variance`.

    References
    ----------
    As for :func:`noise_variance`.

    Examples
    --------
    >>> pilot_variance(np.arange(2) * 60_000_000_000, np.array([0.0, 0.1])) > 0
    True
    """
    span = int(at[-1] - at[0])
    step = min(20 * _MINUTE, span // 10)
    shift = max(1, min(_MINUTE // 60, step // 60))
    lag = step // shift
    if not lag:
        return float((log[-1] - log[0]) ** 2)
    bucket = (at - at[0] + (shift - 1)) // shift
    ends = np.flatnonzero(np.append(bucket[1:] != bucket[:-1], True))
    sampled, points = Sampled(bucket[ends], log[:1], log[ends]), span // shift + 2
    # As a mean over the grids, extended to the time that the shifted ones leave out.
    return sampled.squares(lag, lag, points) / lag * (points - 1) / (points - lag)
