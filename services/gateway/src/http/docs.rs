//! The page over the document, its assets embedded in the binary.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header;
use runtime::extract::Path;
use runtime::problem::{Code, Problem};
use utoipa_swagger_ui::Config;

use super::openapi;

pub const DOCS: &str = "/docs";

/// No validator: the page asks nobody but the gateway.
static PAGE: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from(openapi::DOCUMENT).validator_url("none")));

pub fn router() -> Router {
    Router::new()
        .route(DOCS, get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async || asset("index.html")))
        .route(
            "/docs/{*file}",
            get(async |Path(file): Path<String>| asset(&file)),
        )
}

fn asset(file: &str) -> Result<Response, Problem> {
    match utoipa_swagger_ui::serve(file, Arc::clone(&PAGE)) {
        Ok(Some(asset)) => {
            let content_type = [(header::CONTENT_TYPE, asset.content_type)];
            let bytes = match asset.bytes {
                Cow::Borrowed(embedded) => Bytes::from_static(embedded),
                Cow::Owned(written) => written.into(),
            };
            Ok((content_type, bytes).into_response())
        }
        Ok(None) => Err(Code::NotFound.because("no such file of the page")),
        Err(fault) => {
            tracing::error!(%fault, "writing the page's configuration");
            Err(Code::Internal.because("the page cannot be shown"))
        }
    }
}
