"""The same conversations, over the same stub rooms, behind this server and behind two frameworks: see README.md."""
