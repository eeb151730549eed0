//! `signalpost healthcheck URL`, for containers without a shell.

use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks once; an error unless the answer is 2xx.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let response = runtime::http_client::single_try(TIMEOUT)
        .get(url)
        .send()
        .await?;
    anyhow::ensure!(
        response.status().is_success(),
        "{url} answered {}",
        response.status()
    );
    Ok(())
}
