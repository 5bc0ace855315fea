"""Stages `chat_lm` and `tts_lm`: two Step1 networks, one that hears and answers, one that turns text into codes."""
