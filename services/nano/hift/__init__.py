"""Stage `hift`: the vocoder's wave generator, trained on recorded mels and on those that the trained flow makes."""
