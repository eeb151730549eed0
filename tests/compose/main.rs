//! The scenario files, and deliveries to receivers that fail, on the containers that `scripts/with-stack` started:
//! `make test-compose`.

mod failures;

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::json;
use system_tests::api;
use system_tests::containers::Containers;
use system_tests::repository;
use system_tests::scenario::Scenario;
use system_tests::stage::Stage as _;
use tokio::sync::Mutex;

/// The tests share the stack, and kill parts of it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Every file, one after the other: those that need a fresh stack first, those for which services are started anew last.
#[tokio::test]
async fn the_scenarios_hold_on_the_containers() -> anyhow::Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let mut scenarios = Vec::new();
    for path in repository::files("fixtures/scenarios", "json")? {
        scenarios.push((Scenario::read(&path)?, path));
    }
    scenarios.sort_by_key(|(scenario, _)| (!scenario.fresh, !scenario.environment.is_empty()));

    for (scenario, path) in scenarios {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if scenario.fresh {
            ensure!(is_fresh(&containers).await?, "{name} needs a fresh stack");
        }
        if !scenario.environment.is_empty() {
            containers.set(&scenario.environment).await?;
        }
        scenario
            .run(&containers)
            .await
            .with_context(|| format!("scenario {name}"))?;
        if !scenario.environment.is_empty() {
            containers.set(&BTreeMap::new()).await?;
        }
        println!("holds {name}: {}", scenario.about);
    }
    Ok(())
}

async fn is_fresh(containers: &Containers) -> anyhow::Result<bool> {
    let page = api::get(&format!("{}/events?limit=1", containers.gateway_url())).await?;
    Ok(page.json()["events"] == json!([]))
}
