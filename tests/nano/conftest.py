"""Fixtures of the nano recipe's tests."""

from tests.nano.toy import spoken_work

__all__ = ["spoken_work"]
