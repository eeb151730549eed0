//! Large tasks in slices, on record with their progress.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, Transaction, params};
use schema::delivery::Status;
use schema::webhooks::{JobKind, JobStatus};

use super::accept::insert_late;
use super::changes::change;
use super::lanes::advance;
use super::rows::{Columns, endpoint_id, micros};
use crate::domain::ids::{JobId, Lane};
use crate::storage::{Job, JobSlice, Progress, Sliced};

const JOB: &str = "job_id, kind, client, client_id, endpoint, endpoint_id, since, until, wanted, dry_run, status, \
     cursor, examined, done, updated_at, created_at, correlation_id";

pub(super) fn insert(tx: &Transaction<'_>, lane: Lane, job: &Job) -> Result<()> {
    let position = advance(tx, lane, 1)?;
    let progress = &job.progress;
    tx.prepare_cached(
        "INSERT INTO jobs (lane, position, job_id, kind, client, client_id, endpoint, endpoint_id, since, until, wanted,
            dry_run, status, cursor, examined, done, created_at, updated_at, correlation_id)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        lane,
        position,
        job.job_id.uuid.as_bytes(),
        job.kind.as_str(),
        job.client,
        &*job.client_id,
        job.endpoint.as_ref().map(|(position, _)| position),
        job.endpoint.as_ref().map(|(_, id)| id.as_str()),
        micros(job.since),
        micros(job.until),
        job.wanted.map(Status::as_str),
        job.dry_run,
        progress.status.as_str(),
        progress.cursor,
        progress.examined,
        progress.done,
        micros(job.created_at),
        micros(progress.updated_at),
        job.correlation_id.as_str(),
    ])?;
    Ok(())
}

fn read(row: &Row<'_>, lane: Lane) -> Result<Job> {
    let mut columns = Columns::of(row);
    let job_id = JobId {
        lane,
        uuid: columns.uuid()?,
    };
    let kind = columns.word(JobKind::parse)?;
    let (client, client_id) = (columns.get()?, columns.shared()?);
    let endpoint = match columns.get()? {
        Some(position) => Some((position, endpoint_id(&mut columns)?)),
        None => {
            columns.get::<Option<String>>()?;
            None
        }
    };
    Ok(Job {
        job_id,
        kind,
        client,
        client_id,
        endpoint,
        since: columns.at()?,
        until: columns.at()?,
        wanted: columns.maybe_word(Status::parse)?,
        dry_run: columns.get()?,
        progress: Progress {
            status: columns.word(JobStatus::parse)?,
            cursor: columns.get()?,
            examined: columns.get()?,
            done: columns.get()?,
            updated_at: columns.at()?,
        },
        created_at: columns.at()?,
        correlation_id: columns.correlation_id()?,
    })
}

pub(super) fn one(connection: &Connection, id: JobId) -> Result<Option<Job>> {
    connection
        .prepare_cached(&format!(
            "SELECT {JOB} FROM jobs WHERE lane = ? AND job_id = ?"
        ))?
        .query_row(params![id.lane, id.uuid.as_bytes()], |row| {
            read(row, id.lane)
        })
        .optional()
}

pub(super) fn running(connection: &Connection, lane: Lane) -> Result<Vec<Job>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {JOB} FROM jobs WHERE lane = ? AND status = 'running' ORDER BY position"
    ))?;
    let rows = statement.query_map([lane], |row| read(row, lane))?;
    rows.collect()
}

/// A removal is never canceled: what it removes is gone for its callers already.
pub(super) fn cancel(tx: &Transaction<'_>, id: JobId, now: Timestamp) -> Result<Option<Job>> {
    tx.prepare_cached(
        "UPDATE jobs SET status = 'canceled', updated_at = ?
         WHERE lane = ? AND job_id = ? AND status = 'running' AND kind = 'recover'",
    )?
    .execute(params![micros(now), id.lane, id.uuid.as_bytes()])?;
    one(tx, id)
}

pub(super) fn slice(tx: &Transaction<'_>, slice: &JobSlice) -> Result<Sliced> {
    let progress = &slice.progress;
    let moved = tx
        .prepare_cached(
            "UPDATE jobs SET status = ?, cursor = ?, examined = ?, done = ?, updated_at = ?
             WHERE lane = ? AND job_id = ? AND status = 'running' AND cursor = ?",
        )?
        .execute(params![
            progress.status.as_str(),
            progress.cursor,
            progress.examined,
            progress.done,
            micros(progress.updated_at),
            slice.lane,
            slice.job_id.uuid.as_bytes(),
            slice.began_at,
        ])?;
    if moved == 0 {
        return Ok(Sliced::NotThere);
    }
    let mut changed = Vec::with_capacity(slice.changes.len());
    for one in &slice.changes {
        changed.push(change(tx, one)?);
    }
    let mut late = Vec::with_capacity(slice.late.len());
    for one in &slice.late {
        let now = progress.updated_at;
        late.push(insert_late(tx, slice.lane, one.event, &one.new, now)?);
    }
    Ok(Sliced::Done { changed, late })
}
