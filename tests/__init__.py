"""Tests of ldcodec; `python -m tests.check` runs them with everything else that is checked."""
