"""The tts room: a clause and a voice in, codec values in whole 2:3 groups out, by the 3B speech model.

clause ─> prompt ─> speech_lm ─> alignment ─> groups of five codec values, 120 ms each
"""
