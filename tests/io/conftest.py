from __future__ import annotations

import sys
from pathlib import Path

# wire_bytes.py stands beside the tests, which pytest imports without their folder's path.
sys.path.insert(0, str(Path(__file__).parent))
