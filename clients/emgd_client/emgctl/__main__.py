"""`python -m emgd_client.emgctl`: the command without its entry point."""

import sys

from emgd_client.emgctl import main

sys.exit(main())
