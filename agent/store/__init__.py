"""What must survive: the only place with SQL.

`state.db` holds what a restart needs (events, ledger, registrations, audit) and is synced to disk
with every commit; `history.db` holds samples, may lose its last second with the power, and cannot
take the state down with it.
"""
