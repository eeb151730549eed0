use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use runtime::extract;
use runtime::problem::{Code, Problem};

use crate::app::Desk;
use crate::domain::faults::{Faults, Injector};

/// Sets what shall go wrong from now on, and answers it; `{}` makes all well.
pub(super) async fn set(
    State(desk): State<Arc<Desk>>,
    extract::Json(faults): extract::Json<Faults>,
) -> Result<Json<Faults>, Problem> {
    if let Some(complaint) = faults.complaint() {
        return Err(Code::InvalidPayload.because(complaint));
    }
    *desk.injector() = Injector::new(faults.clone());
    Ok(Json(faults))
}
