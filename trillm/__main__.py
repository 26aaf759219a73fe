"""``python -m trillm``."""

from trillm.cli import main

main()
