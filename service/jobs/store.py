"""All jobs of one home folder, in SQLite: whatever a method has returned from survives the loss of power."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ops.errors import DeepThinError
from service.jobs.record import Job, JobEvent, JobState

VERSION: Final = 1
FILE: Final = "jobs.sqlite3"

_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    method TEXT NOT NULL,
    state TEXT NOT NULL,
    spec TEXT NOT NULL,
    replace INTEGER NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    stage TEXT,
    layer TEXT,
    fraction REAL NOT NULL,
    message TEXT NOT NULL,
    reason TEXT NOT NULL,
    hosted INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    cancelling INTEGER NOT NULL,
    outcome TEXT
);
CREATE UNIQUE INDEX one_active_job_by_model ON jobs(model) WHERE state IN ('queued', 'running');
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX events_by_job ON events(job, id);
"""
_COLUMNS = tuple(Job.__slots__)
_ACTIVE = "state IN ('queued', 'running')"
_BUSY_SECONDS = 10.0


class JobStoreError(DeepThinError, OSError):
    """The jobs cannot be read or written."""


class NameTakenError(DeepThinError, ValueError):
    """Another job that has not ended makes a model of the same name."""


class QueueFullError(DeepThinError, RuntimeError):
    """As many jobs wait as may wait."""


class JobStore:
    """Jobs and their events; any number of threads and processes may use the same file at once."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`, or make one there.

        Raises:
            JobStoreError: the file cannot be used, or a newer version of DeepThin wrote it.
        """
        self.folder = folder
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                folder / FILE, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise JobStoreError(f"the jobs in {folder} cannot be opened: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise JobStoreError(f"the jobs in {folder} cannot be opened: {error}") from error
        except JobStoreError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def add(self, job: Job, *, max_queued: int) -> None:
        """Accept a job.

        Raises:
            QueueFullError: `max_queued` jobs are waiting.
            NameTakenError: another job makes a model of that name.
        """
        with self._transaction() as database:
            (queued,) = database.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if queued >= max_queued:
                raise QueueFullError(f"{queued} jobs are waiting, and no more may")
            row = {
                **asdict(job),
                "state": job.state.value,
                "spec": json.dumps(job.spec),
                "outcome": None if job.outcome is None else json.dumps(job.outcome),
            }
            names = ", ".join(_COLUMNS)
            places = ", ".join(f":{column}" for column in _COLUMNS)
            try:
                database.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", row)
            except sqlite3.IntegrityError as error:
                raise NameTakenError(f"a job that makes a model {job.model!r} has not ended yet") from error
            self._add_event(database, job.id, "state", {"state": job.state.value, "reason": ""})

    def get(self, job_id: str) -> Job | None:
        """The job `job_id`, or None."""
        rows = self._read("SELECT {columns} FROM jobs WHERE id = ?", (job_id,))
        return _job(rows[0]) if rows else None

    def jobs(self, *, state: JobState | None = None, limit: int = 100) -> list[Job]:
        """At most `limit` jobs, the newest first; of one `state` only, if given."""
        where, values = ("WHERE state = ?", (state.value, limit)) if state is not None else ("", (limit,))
        rows = self._read(f"SELECT {{columns}} FROM jobs {where} ORDER BY number DESC LIMIT ?", values)
        return [_job(row) for row in rows]

    def next(self) -> Job | None:
        """The job to run next: one that was running when its service ended, else the oldest that waits."""
        rows = self._read(f"SELECT {{columns}} FROM jobs WHERE {_ACTIVE} ORDER BY state = 'queued', number LIMIT 1", ())
        return _job(rows[0]) if rows else None

    def names(self) -> set[str]:
        """Names of the models that jobs which have not ended will make."""
        return {row[0] for row in self._read(f"SELECT model FROM jobs WHERE {_ACTIVE}", ())}

    def states(self) -> dict[str, JobState]:
        """The state of every job, by its id."""
        return {job_id: JobState(state) for job_id, state in self._read("SELECT id, state FROM jobs", ())}

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        found = dict(self._read("SELECT state, count(*) FROM jobs GROUP BY state", ()))
        return {state: int(found.get(state.value, 0)) for state in JobState}

    def start(self, job_id: str) -> bool:
        """Mark a job as running; False when it has ended or was asked to stop meanwhile."""
        with self._transaction() as database:
            changed = database.execute(
                f"UPDATE jobs SET state = 'running', started = coalesce(started, ?) WHERE id = ? AND {_ACTIVE}"
                " AND NOT cancelling",
                (time.time(), job_id),
            ).rowcount
            if changed:
                self._add_event(database, job_id, "state", {"state": "running", "reason": ""})
        return bool(changed)

    def progress(self, job_id: str, *, stage: str, layer: str | None, fraction: float, message: str) -> None:
        """Note how far a job is."""
        data = {"stage": stage, "layer": layer, "fraction": round(fraction, 4), "message": message}
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET stage = :stage, layer = :layer, fraction = :fraction, message = :message"
                f" WHERE id = :id AND {_ACTIVE}",
                {**data, "id": job_id},
            )
            self._add_event(database, job_id, "progress", data)

    def died(self, job_id: str, *, again: bool) -> int:
        """Note that a job's worker died; how often it did since it finished a stage (`again`: none in between)."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET deaths = CASE WHEN ? THEN deaths + 1 ELSE 1 END, restarts = restarts + 1 WHERE id = ?",
                (again, job_id),
            )
            (deaths,) = database.execute("SELECT deaths FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return int(deaths)

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop: one that waits ends here, one that runs is up to the supervisor."""
        with self._transaction() as database:
            database.execute(f"UPDATE jobs SET cancelling = 1 WHERE id = ? AND {_ACTIVE}", (job_id,))
            rows = database.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchall()
            if rows and rows[0][0] == JobState.QUEUED:
                self._finish(database, job_id, JobState.CANCELLED, "cancelled before it started", hosted=False)

    def give_outcome(self, job_id: str, outcome: Mapping[str, Any]) -> None:
        """Keep what the pipeline gave back."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET outcome = ? WHERE id = ?", (json.dumps(dict(outcome)), job_id))

    def rename(self, job_id: str, model: str) -> None:
        """Note that the model of a job got another name than was meant."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET model = ? WHERE id = ?", (model, job_id))

    def finish(self, job_id: str, state: JobState, reason: str = "", *, hosted: bool = False) -> bool:
        """End a job in a final state; False when it had ended before."""
        with self._transaction() as database:
            return self._finish(database, job_id, state, reason, hosted=hosted)

    def events(self, job_id: str, after: int = 0, limit: int = 500) -> list[JobEvent]:
        """Events of a job with ids above `after`, the oldest first."""
        rows = self._read(
            "SELECT id, time, kind, data FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?",
            (job_id, after, limit),
        )
        return [JobEvent(number, moment, kind, json.loads(data)) for number, moment, kind, data in rows]

    def stage_seconds(self, job_id: str) -> dict[str, float]:
        """Seconds that a job spent in each stage, those lost to restarts included."""
        rows = self._read("SELECT time, json_extract(data, '$.stage') FROM events WHERE job = ? ORDER BY id", (job_id,))
        seconds: dict[str, float] = {}
        for (start, stage), (end, _) in pairwise(rows):
            if stage is not None:
                seconds[stage] = seconds.get(stage, 0.0) + max(0.0, end - start)
        return seconds

    def forget(self, keep: int) -> list[str]:
        """Drop the oldest jobs that have ended, all but `keep`; their ids."""
        with self._transaction() as database:
            rows = database.execute(
                f"SELECT id FROM jobs WHERE NOT {_ACTIVE} ORDER BY number DESC LIMIT -1 OFFSET ?", (keep,)
            ).fetchall()
            database.executemany("DELETE FROM jobs WHERE id = ?", rows)
        return [row[0] for row in rows]

    def _prepare(self) -> None:
        # FULL: a job that was accepted must not be lost with the power. Write-ahead: readers never wait for the worker.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        with self._transaction() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise JobStoreError(f"{self.folder / FILE} is of version {version}; this DeepThin reads {VERSION}")
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                # IMMEDIATE: one that turns from reading to writing half way could not wait for its turn.
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                # SQLite has rolled back already after some errors, a full disk among them.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise JobStoreError(f"the jobs in {self.folder} cannot be written: {error}") from error
                raise

    def _read(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(query.format(columns=", ".join(_COLUMNS)), values).fetchall()
            except sqlite3.Error as error:
                raise JobStoreError(f"the jobs in {self.folder} cannot be read: {error}") from error

    def _finish(self, database: sqlite3.Connection, job_id: str, state: JobState, reason: str, *, hosted: bool) -> bool:
        done = 1.0 if state in (JobState.SUCCEEDED, JobState.QUARANTINED) else None
        changed = database.execute(
            f"UPDATE jobs SET state = ?, reason = ?, hosted = ?, finished = ?, fraction = coalesce(?, fraction)"
            f" WHERE id = ? AND {_ACTIVE}",
            (state.value, reason, hosted, time.time(), done, job_id),
        ).rowcount
        if changed:
            self._add_event(database, job_id, "state", {"state": state.value, "reason": reason})
        return bool(changed)

    @staticmethod
    def _add_event(database: sqlite3.Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
        database.execute(
            "INSERT INTO events (job, time, kind, data) VALUES (?, ?, ?, ?)",
            (job_id, time.time(), kind, json.dumps(data)),
        )


def _job(row: Sequence[Any]) -> Job:
    fields = dict(zip(_COLUMNS, row, strict=True))
    fields["state"] = JobState(fields["state"])
    fields["spec"] = json.loads(fields["spec"])
    fields["outcome"] = None if fields["outcome"] is None else json.loads(fields["outcome"])
    for flag in ("replace", "hosted", "cancelling"):
        fields[flag] = bool(fields[flag])
    return Job(**fields)
