"""Deprecated entry point of the kernel, for the kernelspecs of ibticks 0.1.

They start ``python -m ibticks.capture.kernel``; ``ibticks kernel install`` replaces one by a
kernelspec that starts ``python -m ibticks.notebook``.
"""

from __future__ import annotations

import runpy
import warnings

if __name__ == "__main__":
    warnings.warn(
        "ibticks.capture.kernel is deprecated: run `ibticks kernel install` again, to start "
        "ibticks.notebook instead",
        DeprecationWarning,
        stacklevel=1,
    )
    runpy.run_module("ibticks.notebook", run_name="__main__")
