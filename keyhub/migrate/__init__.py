"""`manage.py migrate`, made safe to run at peak traffic.

runner_lock  one runner at a time, over a polled advisory lock
executor     each migration in one transaction with its record, under a short lock_timeout, tried again
lean         Django's executor, without rendering models for migrations that ask for none
blockers     who holds the lock that a statement waits for
history      digests of what was applied, and of which run was interrupted
"""
