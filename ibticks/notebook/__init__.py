"""notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibticks._lazy import lazy_exports

if TYPE_CHECKING:
    from ibticks.notebook._kernelspec import install_kernel, installed_kernels, uninstall_kernel

__all__ = ["install_kernel", "installed_kernels", "uninstall_kernel"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__)
