//! `fixtures/scenarios`, each file on a hub of its own.

use system_tests::hub::Hub;
use system_tests::repository;
use system_tests::scenario::Scenario;

async fn run(name: &str) -> anyhow::Result<()> {
    let path = repository::root().join(format!("fixtures/scenarios/{name}.json"));
    let scenario = Scenario::read(&path)?;
    let environment = scenario.environment.iter();
    let variables: Vec<(&str, &str)> = environment
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let hub = Hub::start_with(&variables).await?;
    scenario.run(&hub).await
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $name() -> anyhow::Result<()> {
            run(stringify!($name)).await
        })+

        #[test]
        fn no_file_is_forgotten() {
            let files: Vec<String> = repository::files("fixtures/scenarios", "json")
                .unwrap()
                .iter()
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            assert_eq!(files, [$(stringify!($name)),+]);
        }
    };
}

scenarios! {
    correlation_id_is_followed,
    destination_recovers,
    events_are_queried,
    health_is_told,
    page_is_not_swallowed,
    page_survives_kill,
    pagerduty_fake_is_strict,
    payout_failed_pages,
    status_pages_are_pulled_once,
    stripe_event_is_stored_once,
    stripe_kinds_are_routed,
    stripe_refuses_what_is_not_signed,
    text_is_summarized,
    webhook_arrives_signed,
    webhook_batch_fails_item_by_item,
    webhook_cancel_ends_a_delivery,
    webhook_client_is_removed,
    webhook_disabled_endpoint_is_recovered,
    webhook_endpoint_is_removed,
    webhook_exhausted_is_retried_by_hand,
    webhook_exhausted_tells_its_client,
    webhook_fails_twice_then_arrives,
    webhook_gone_disables,
    webhook_keys_are_remembered,
    webhook_order_is_strict,
    webhook_secret_is_rotated,
    webhook_tenants_are_apart,
}
