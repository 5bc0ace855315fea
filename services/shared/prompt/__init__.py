"""What the two language models read, token by token: whoever knocks at an LM room's door writes its prompt with this.

    chat/    a conversation for the chat model          speech/  a voice and a clause for the speech model

The rooms take ids and know no words, so the callers' half of their doors stands here, on plain text and integers.
"""
