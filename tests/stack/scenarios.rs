//! `fixtures/scenarios`, each file on a hub of its own.

use system_tests::hub::Hub;
use system_tests::repository;
use system_tests::scenario::Scenario;

async fn run(name: &str) -> anyhow::Result<()> {
    let path = repository::root().join(format!("fixtures/scenarios/{name}.json"));
    let scenario = Scenario::read(&path)?;
    let hub = Hub::start().await?;
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
    page_survives_kill,
    pagerduty_fake_is_strict,
    payout_failed_pages,
    status_pages_are_pulled_once,
    stripe_event_is_stored_once,
    stripe_kinds_are_routed,
    stripe_refuses_what_is_not_signed,
    text_is_summarized,
}
