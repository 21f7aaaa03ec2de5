"""`python -m isoline` is the command `isoline`."""

from isoline.cli import main

main()
