//! Summarizer: says in one line what an alert text is about, and how bad it sounds.

use std::process::ExitCode;

use anyhow::Context as _;
use runtime::config::Config as _;
use runtime::{clock::Clock, config, failure, health, server, shutdown, telemetry};
use summarizer::{app::App, config::Config};

#[tokio::main]
async fn main() -> ExitCode {
    failure::exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("summarizer");
    let config: Config = config::from_env()?;
    if health::check_requested() {
        return health::check(&config.listen_addr()).await;
    }
    let shutdown = shutdown::on_signal()?;
    let listener = server::bind(&config.listen_addr()).await?;
    App::build(config, Clock::system())
        .run(listener, shutdown)
        .await
        .context("serving")
}
