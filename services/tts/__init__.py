"""The tts room: text and a voice in, codec values in whole 2:3 groups out, by the 3B speech model.

text ─> clauses ─> prompt/ + voices/ ─> speech_lm ─> alignment ─> groups of five codec values, 120 ms each
"""
