"""Stage `flow`: the vocoder's flow from codec values to log-mel, trained in normalised coordinates."""
