//! Status poller: asks the vendors' status pages, and turns what is wrong there into events.

use std::process::ExitCode;

use anyhow::Context as _;
use runtime::config::Config as _;
use runtime::{clock::Clock, config, failure, health, server, shutdown, telemetry};
use status_poller::{app::App, config::Config};

#[tokio::main]
async fn main() -> ExitCode {
    failure::exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("status-poller");
    let config: Config = config::from_env()?;
    if health::check_requested() {
        return health::check(&config.listen_addr()).await;
    }
    let shutdown = shutdown::on_signal()?;
    let listen_addr = config.listen_addr();
    let app = App::build(&config, Clock::system()).context("building the status poller")?;
    let listener = server::bind(&listen_addr).await?;
    app.run(listener, shutdown).await
}
