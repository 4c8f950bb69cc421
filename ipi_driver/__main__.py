"""``python -m ipi_driver`` is ``ipi-driver``."""

import sys

from ipi_driver.cli import main

sys.exit(main())
