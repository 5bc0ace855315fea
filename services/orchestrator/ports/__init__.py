"""What the orchestrator asks of the outside, as protocols; `adapters/` fulfils them and tests have fakes of each.

rooms.py   the four rooms        store.py   sessions, turns and voices        hearing.py   voice activity
"""
