"""Audio in flight: everything of a conversation that waits, on asyncio, between bounded channels.

hear ─> VAD ─> conversation core ─> utterances ─> tokenizer
                    │  ^
             effects│  │events                      text ─> clauses ─> speech tokens ─> samples
                    v  │                            lm          tts               vocoder
                  session ──── one TaskGroup a reply ──────────────────────────────────> outbox ─> the client
"""
