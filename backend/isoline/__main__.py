"""`python -m isoline` is the command `isoline`."""

from isoline.cli.main import main

main()
