"""A queue that outlives every process: procrastinate's, in PostgreSQL, worked by the workers.

How to run (``pip install procrastinate``)::

    export DATABASE_URL=postgresql://…
    PROCRASTINATE_APP=durable_queue.queue procrastinate schema --apply      # once
    apihour durable_queue:Container
    curl 127.0.0.1:8000/mails -d '{"to": "ada@example.org"}'

What was queued is done though a worker is killed, the daemon stops, or the machine does; at least
once, so a task may be done again. A worker that retires takes nothing more, and ends what it has.
"""

import asyncio
import logging
import os

import procrastinate

import apihour
from apihour_http import HTTPServer, Routes

STALLED = float(os.environ.get("STALLED_AFTER", "30"))  # seconds without a sign of its worker

routes = Routes()
log = logging.getLogger(__name__)
queue = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ.get("DATABASE_URL", "")))


@queue.task(name="send_mail", retry=procrastinate.RetryStrategy(max_attempts=5, wait=10))
async def send_mail(to: str) -> None:
    await asyncio.sleep(0.05)  # a client of SMTP
    log.info("mail to %s", to)


@routes.post("/mails", status=202)
async def mail(request):
    job = await send_mail.defer_async(to=(await request.json())["to"])
    return {"job": job}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:8000"}

    def make_servers(self):
        return {"http": HTTPServer(routes)}

    async def start(self):
        await queue.open_async()
        self.working = self.jobs.start(queue.run_worker_async(
            name=f"worker {self.worker.name}", concurrency=10, install_signal_handlers=False,
            update_heartbeat_interval=STALLED / 3, stalled_worker_timeout=STALLED), "queue")

    @apihour.every(STALLED)
    async def retry_stalled(self):
        """Queue again what a worker had that was killed; in one worker for all."""
        manager = queue.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED):
            log.warning("queued again: %s", job.call_string)
            await manager.retry_job(job)

    async def shutdown(self):
        self.working.cancel()  # it takes no more, and the drain waits for what it has

    async def cleanup(self):
        await queue.close_async()
