"""`python -m service.cli`, for where the console script is not on the path."""

from service.cli import main

raise SystemExit(main())
