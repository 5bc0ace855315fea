"""Callers made of real recordings, for the measurements of turn taking."""
