"""The chat room: Step-Audio-Chat turns a conversation, spoken or written, into the text of a reply."""
