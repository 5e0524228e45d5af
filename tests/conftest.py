"""Failed assertions of the modules that tests share show their values, as those of tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("support", "harness", "wire_bytes", "spatial_oracles")
