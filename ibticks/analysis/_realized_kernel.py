"""Realised kernels: variance from every tick, robust to serially dependent noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibticks.analysis._engine.columns import Frame, collect_like
from ibticks.analysis._engine.registry import NotIncremental, measure
from ibticks.analysis._engine.sampling import (
    LOG_PRICES,
    measure_groups,
    noise_variance,
    pilot_variance,
    positive_prices,
)
from ibticks.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["KERNELS", "Kernel", "autocovariances", "realized_kernel"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """Weights of a kernel by lag, and the constants of its best bandwidth.

    Attributes
    ----------
    weight : callable
        From lag over bandwidth, within 0 to 1, to weight.
    smooth : float, optional
        c* of ``c* xi^(4/5) n^(3/5)``, for a kernel that never gives a negative variance or nearly
        so; only where the kernel is flat at 0 without being straight.
    flat_top : float, optional
        c* of ``c* xi n^(1/2)``, for the flat-top kernel; only where it is flat at 0 and at 1.
    """

    weight: Callable[[Floats], Floats]
    smooth: float | None = None
    flat_top: float | None = None


def _parzen(x: Floats) -> Floats:
    return np.where(x <= 0.5, 1 - 6 * x**2 + 6 * x**3, 2 * (1 - x) ** 3)


KERNELS: Final = {
    "bartlett": Kernel(lambda x: 1 - x),
    "epanechnikov": Kernel(lambda x: 1 - x**2),
    "second": Kernel(lambda x: 1 - 2 * x + x**2),
    "cubic": Kernel(lambda x: 1 - 3 * x**2 + 2 * x**3, 2.4962, 3.6868),
    "fifth": Kernel(lambda x: 1 - 10 * x**3 + 15 * x**4 - 6 * x**5, None, 3.9585),
    "sixth": Kernel(lambda x: 1 - 15 * x**4 + 24 * x**5 - 10 * x**6, None, 3.9761),
    "seventh": Kernel(lambda x: 1 - 21 * x**5 + 35 * x**6 - 15 * x**7, None, 4.1199),
    "eighth": Kernel(lambda x: 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, None, 4.3133),
    "parzen": Kernel(_parzen, 3.5134, 4.7775),
    "tukey_hanning": Kernel(lambda x: np.sin(np.pi / 2 * (1 - x)) ** 2, 2.3041, 3.7005),
    "modified_tukey_hanning": Kernel(
        lambda x: np.sin(np.pi / 2 * (1 - x) ** 2) ** 2, 4.4692, 5.7471
    ),
}
"""Kernels of Barndorff-Nielsen et al. (2008), with constants that minimise the asymptotic variance.

R's *highfrequency* has the same and a rectangular one, but the code of its ``second`` is 1 - 2x^3.
"""


@measure("Volatility", NotIncremental("it samples prices and looks at all of them together"))
def realized_kernel(
    ticks: Frame,
    kernel: str = "parzen",
    *,
    bandwidth: float | None = None,
    flat_top: bool = False,
    jitter: int = 2,
    column: str = "price",
    per: str | pl.Expr | None = None,
) -> Frame:
    r"""Realised kernel: the variance from every tick, with weighted autocovariances of returns.

    .. math:: K = \gamma_0 + 2 \sum_{h=1}^{H} k_h \gamma_h,
        \qquad \gamma_h = \sum_{j=h+1}^{n} r_j r_{j-h}

    with :math:`k_h = k(h / (H + 1))`, or with :math:`k_h = k((h - 1) / H)` if ``flat_top``.

    Parameters
    ----------
    ticks : polars.DataFrame or polars.LazyFrame
        Ticks with ``timestamp`` and ``column``, in order of arrival. Collected as soon as a lazy
        result is.
    kernel : str
        One of :data:`KERNELS`. Parzen, not flat-topped, is never negative, and is the one of
        *Realized kernels in practice*.
    bandwidth : float, optional
        H. By default the best for the kernel, rounded up: :math:`c^* \xi^{4/5} n^{3/5}`, or with a
        flat top :math:`c^* \xi n^{1/2}`, where :math:`\xi^2 = \omega^2 / IV`, with the noise as in
        ``noise_variance`` and the variance as in
        ``pilot_variance``.
    flat_top : bool
        The kernels of 2008: they converge faster when noise is independent, and may be negative.
    jitter : int
        Number of prices at either end that are averaged into one, so that noise at the ends
        cancels.
    column, per
        As in :func:`~ibticks.analysis.realized_variance`.

    Returns
    -------
    same as ticks
        A row for each contract (and ``per``) that has a price, in their order: these,
        ``realized_kernel`` (float64, null with too few ticks), ``bandwidth`` (uint32),
        ``noise_variance`` (float64) and ``returns`` (uint32).

    Raises
    ------
    InputError
        An unknown kernel, or one without a best bandwidth and none is given.

    Notes
    -----
    ``rKernelCov`` of R's *highfrequency* gives every kernel a flat top, and divides
    :math:`\gamma_h` by :math:`1 - h / n` (``kernelDOFadj``).

    References
    ----------
    O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard, Designing realized kernels to
    measure the ex post variation of equity prices in the presence of noise, *Econometrica* 76
    (2008), 1481-1536; and Realized kernels in practice, *Econometrics Journal* 12 (2009), C1-C32.

    Examples
    --------
    >>> from ibticks.sample import sample
    >>> ibm = pl.read_parquet(sample("ibm_trades").path)
    >>> realized_kernel(ibm).select(pl.col("realized_kernel").sqrt().round(4), "bandwidth").row(0)
    (0.0085, 104)
    """
    chosen = _choose(kernel, bandwidth, flat_top=flat_top)
    if jitter < 1:
        raise InputError(f"realized_kernel: at least one price stands at an end, not {jitter}")

    def measure(at: NDArray[np.int64], log: Floats) -> tuple[Any, ...]:
        noise = noise_variance(at, log)
        ends = [log[:jitter].mean(keepdims=True), log[len(log) - jitter :].mean(keepdims=True)]
        returns = np.diff(np.concatenate([ends[0], log[jitter:-jitter], ends[1]]))
        if len(log) < 2 * jitter or len(log) < 2:
            return None, None, None, max(0, len(log) - 1)
        wide = bandwidth
        if wide is None:
            wide = _best(chosen, noise, pilot_variance(at, log), len(returns), flat_top=flat_top)
        lags = min(int(np.ceil(wide)), len(returns) - 1)
        covariances = autocovariances(returns, lags)
        steps = np.arange(1, lags + 1)
        at_lag = (steps - 1) / lags if flat_top and lags else steps / (lags + 1)
        value = covariances[0] + 2 * (chosen.weight(at_lag) @ covariances[1:])
        return float(value), lags, noise, len(returns)

    logs, groups = positive_prices(ticks, column, per, "realized_kernel")
    schema = {
        "realized_kernel": pl.Float64(),
        "bandwidth": pl.UInt32(),
        "noise_variance": pl.Float64(),
        "returns": pl.UInt32(),
    }
    return collect_like(ticks, measure_groups(ticks, logs, groups, LOG_PRICES, measure, schema))


def autocovariances(returns: Floats, lags: int) -> Floats:
    """Return sums of products of returns some steps apart, for each lag from 0 to ``lags``.

    By Fourier transforms of blocks some times as long as the lags: the work is n log(lags) and the
    memory that of a block.

    Examples
    --------
    >>> autocovariances(np.array([1.0, 2.0, 3.0]), 2).round(9).tolist()
    [14.0, 8.0, 3.0]
    """
    if lags < 24:
        n = len(returns)
        return np.array([returns[h:] @ returns[: n - h] for h in range(lags + 1)])
    size = 1 << max(12, (8 * lags).bit_length())
    block = size - lags
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    for start in range(0, len(returns), block):
        here = returns[start : start + block]
        back = min(lags, start)
        before = np.zeros(size)
        before[lags - back : lags + len(here)] = returns[start - back : start + len(here)]
        spectrum += np.conj(np.fft.rfft(here, size)) * np.fft.rfft(before)
    return np.fft.irfft(spectrum, size)[lags::-1]


def _choose(kernel: str, bandwidth: float | None, *, flat_top: bool) -> Kernel:
    if kernel not in KERNELS:
        raise InputError(f"no kernel {kernel!r}: there are {', '.join(KERNELS)}", kernel=kernel)
    if bandwidth is not None and not 0 <= bandwidth < np.inf:
        raise InputError(f"realized_kernel: the bandwidth must not be {bandwidth}")
    chosen = KERNELS[kernel]
    if bandwidth is None and (chosen.flat_top if flat_top else chosen.smooth) is None:
        raise InputError(
            f"the kernel {kernel!r} has no best bandwidth{' with a flat top' if flat_top else ''}; "
            "give one, as in bandwidth=30",
            kernel=kernel,
        )
    return chosen


def _best(kernel: Kernel, noise: float, variance: float, n: int, *, flat_top: bool) -> float:
    ratio = noise / variance if variance > 0 else 0.0
    if flat_top:
        return float((kernel.flat_top or 0.0) * (ratio * n) ** 0.5)
    return float((kernel.smooth or 0.0) * ratio**0.4 * n**0.6)
