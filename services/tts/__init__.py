"""The tts room: text and a voice in, codec values in whole 2:3 groups out, by the 3B speech model."""
