"""The two versions: of this software, and of the protocol it speaks."""

from typing import Final

VERSION: Final = "0.1.0"
"""Version of the software."""

PROTOCOL: Final = 1
"""Version of the protocol; raised only when an old client would misunderstand (docs/protocol.md, section 8)."""
