"""The notebook side of a capture: a Jupyter kernel, its kernelspec, and an IPython magic.

``ibticks kernel install`` tells Jupyter of the kernel (:func:`install_kernel`), which Jupyter
starts as ``python -m ibticks.notebook``: ``store`` and ``capture`` exist from the first cell on.
``%load_ext ibticks`` defines ``%capture_ticks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.notebook._kernel import install_kernel, installed_kernels, uninstall_kernel
    from ibticks.notebook._magics import load_magics

__all__ = ["install_kernel", "installed_kernels", "load_magics", "uninstall_kernel"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
