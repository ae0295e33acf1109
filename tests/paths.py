"""Where things lie. A module of its own: several folders have a conftest, and only one of them goes by that name."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
