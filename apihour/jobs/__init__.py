"""Work of an application beside its servers: background work, and jobs on a schedule.

May import from shared down.
"""

from apihour.jobs.declare import cron, every, see_jobs
from apihour.jobs.running import JobRun
from apihour.jobs.scheduler import Jobs, JobState

__all__ = ["JobRun", "JobState", "Jobs", "cron", "every", "see_jobs"]
