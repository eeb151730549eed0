//! The scenario files against the containers that `scripts/with-stack` started: `make test-compose`.

use anyhow::Context as _;
use serde_json::json;
use system_tests::api;
use system_tests::containers::Containers;
use system_tests::repository;
use system_tests::scenario::Scenario;
use system_tests::stage::Stage as _;

/// One after the other, since they share the stack; those that need a fresh one first.
#[tokio::test]
async fn the_scenarios_hold_on_the_containers() -> anyhow::Result<()> {
    let containers = Containers::from_env()?;
    let mut scenarios = Vec::new();
    for path in repository::files("fixtures/scenarios", "json")? {
        scenarios.push((Scenario::read(&path)?, path));
    }
    scenarios.sort_by_key(|(scenario, _)| !scenario.fresh);

    for (scenario, path) in scenarios {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if scenario.is_for_processes() {
            println!("left out {name}: it needs receivers or settings of its own");
            continue;
        }
        if scenario.fresh && !is_fresh(&containers).await? {
            println!("left out {name}: the stack has stored events already");
            continue;
        }
        scenario
            .run(&containers)
            .await
            .with_context(|| format!("scenario {name}"))?;
        println!("holds    {name}: {}", scenario.about);
    }
    Ok(())
}

async fn is_fresh(containers: &Containers) -> anyhow::Result<bool> {
    let page = api::get(&format!("{}/events?limit=1", containers.gateway_url())).await?;
    Ok(page.json()["events"] == json!([]))
}
