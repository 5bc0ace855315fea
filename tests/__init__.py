"""Tests mirror the modules they speak about; their names are sentences of behaviour."""
