//! Gateway: the only public port.

use anyhow::Context as _;
use gateway::{app::App, config::Config};
use runtime::config::Config as _;
use runtime::{clock::Clock, config, health, server, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("gateway");
    let config: Config = config::from_env()?;
    if health::check_requested() {
        return health::check(&config.listen_addr()).await;
    }
    let shutdown = shutdown::on_signal()?;
    let listen_addr = config.listen_addr();
    let app = App::build(config, Clock::system()).context("building the gateway")?;
    let listener = server::bind(&listen_addr).await?;
    app.run(listener, shutdown).await
}
