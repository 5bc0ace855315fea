"""Stage `tokens`: the text vocabulary, and all recorded speech as codec values."""
