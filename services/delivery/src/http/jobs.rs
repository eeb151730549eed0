//! `GET` and `DELETE /webhooks/jobs/{job_id}`.

use axum::Json;
use axum::extract::State;
use runtime::extract::Path;
use runtime::problem::Problem;
use schema::webhooks::JobView;

use super::who::Who;
use super::{Api, refuse, views};
use crate::domain::ids::JobId;
use crate::storage::Job;

pub(super) async fn one(
    State(api): State<Api>,
    who: Who,
    Path(job_id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let job = api.job(&who, &job_id).await?;
    Ok(Json(views::job(job)))
}

/// What it has done stays done.
pub(super) async fn cancel(
    State(api): State<Api>,
    who: Who,
    Path(job_id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let id = api.job(&who, &job_id).await?.job_id;
    let canceled = api.worker.cancel_job(id).await;
    let job = canceled.map_err(refuse::command("job"))?;
    Ok(Json(views::job(job)))
}

impl Api {
    /// The job of this id that the caller may see.
    async fn job(&self, who: &Who, job_id: &str) -> Result<Job, Problem> {
        let unknown = || refuse::unknown("job");
        let id = JobId::parse(job_id).ok_or_else(unknown)?;
        let found = self.storage.job(id).await.map_err(refuse::store)?;
        found
            .filter(|job| who.sees(&job.client_id))
            .ok_or_else(unknown)
    }
}
