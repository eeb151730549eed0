//! Stripe ingester: verifies Stripe's webhooks, normalizes them and hands them to event-store.

use std::process::ExitCode;

use anyhow::Context as _;
use runtime::config::Config as _;
use runtime::{clock::Clock, config, failure, health, server, shutdown, telemetry};
use stripe_ingester::{app::App, config::Config};

#[tokio::main]
async fn main() -> ExitCode {
    failure::exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("stripe-ingester");
    let config: Config = config::from_env()?;
    if health::check_requested() {
        return health::check(&config.listen_addr()).await;
    }
    let shutdown = shutdown::on_signal()?;
    let listen_addr = config.listen_addr();
    let app = App::build(config, Clock::system());
    let listener = server::bind(&listen_addr)
        .await
        .context("opening the port")?;
    app.run(listener, shutdown).await
}
