"""Entry point of the kernel: ``python -m ibticks.notebook -f CONNECTION_FILE``."""

from ibticks.notebook._kernel import main

main()
