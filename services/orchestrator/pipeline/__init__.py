"""Audio in flight: everything of a conversation that waits, on asyncio, between bounded channels.

hear ─> VAD ─> conversation core ─> utterances ─> tokenizer
                    │  ^
             effects│  │events                      text ─> clauses ─> speech tokens ─> samples
                    v  │                            lm          tts               vocoder
                  session ──── one TaskGroup a reply ──────────────────────────────────> outbox ─> the client

sessions.py   all sessions of a replica     session.py    what an ingress holds of one     shell.py   its loop
core.py       the core as it is driven      acting.py     its effects carried out          work.py    in tasks
keeping.py    turns to the store            sending.py    what the client is sent          ending.py  how it ends
listening.py  the user's audio              utterances.py speech to tokens                 context.py what is read
replies.py    a reply's stages              speaking.py   clauses to samples               text.py    what is shown
window.py     which turns are read      pacing.py     how soon speech is needed    rations.py what may be spent
speech_door.py, channel.py  bounded doors   limits.py     every bound                      observer.py who watches
"""
