use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use schema::{Kind, Severity};
use serde_json::{Value, json};

use super::*;
use crate::domain::page;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2024-01-15T12:00:00Z")
}

fn braze() -> Source {
    Source::status_page("braze").unwrap()
}

fn read(body: &Value) -> Page {
    page::parse(body.to_string().as_bytes()).unwrap()
}

fn with_component(status: &str, updated_at: &str) -> Page {
    read(&json!({
        "page": {"name": "Braze Status"},
        "components": [{"id": "c", "name": "Dashboard", "status": status, "updated_at": updated_at}],
    }))
}

/// What event-store keeps of one source.
#[derive(Default)]
struct Store(BTreeMap<EventId, Event>);

impl Store {
    fn open(&self) -> Vec<Open> {
        let open = self.0.values().filter(|event| event.resolved_at.is_none());
        open.map(|event| Open {
            event_id: event.event_id.clone(),
            started_at: event.started_at,
        })
        .collect()
    }

    /// Answers how many events were new and how many were closed.
    fn apply(&mut self, plan: Plan) -> (usize, usize) {
        let before = self.0.len();
        for event in plan.store {
            self.0.entry(event.event_id.clone()).or_insert(event);
        }
        let mut closed = 0;
        for ended in plan.resolve {
            let event = self.0.get_mut(&ended.event_id).unwrap();
            closed += usize::from(event.resolved_at.replace(ended.resolved_at).is_none());
        }
        (self.0.len() - before, closed)
    }

    fn poll(&mut self, page: &Page) -> (usize, usize) {
        let plan = diff(&braze(), page, &self.open(), noon());
        self.apply(plan)
    }
}

#[test]
fn an_incident_becomes_an_event_with_its_own_bytes() {
    let row = r#"{ "id":"i1", "name":"Payment\nlatency", "impact":"major", "status":"identified",
        "created_at":"2024-01-15T10:00:00Z", "started_at":"2024-01-15T09:30:00+00:00", "n": 1.0,
        "incident_updates":[{"body":"<b>Fixing</b> it"}] }"#;
    let body = format!(r#"{{"page":{{"name":"Braze Status"}},"incidents":[{row}]}}"#);

    let plan = diff(
        &braze(),
        &page::parse(body.as_bytes()).unwrap(),
        &[],
        noon(),
    );

    let event = &plan.store[0];
    assert_eq!(event.event_id.as_str(), "braze_status:incident:i1");
    assert_eq!(
        (event.kind, event.severity),
        (Kind::Incident, Severity::Critical)
    );
    assert_eq!(event.service, "Braze Status");
    assert_eq!(event.summary, "Payment latency");
    assert_eq!(event.description.as_deref(), Some("Fixing it"));
    assert_eq!(event.started_at, at("2024-01-15T09:30:00Z"));
    assert_eq!(event.resolved_at, None);
    assert_eq!(event.raw.get(), row);
}

#[test]
fn a_bad_component_becomes_an_event_named_after_its_episode() {
    let plan = diff(
        &braze(),
        &with_component("degraded_performance", "2024-01-15T11:00:00.125Z"),
        &[],
        noon(),
    );

    let event = &plan.store[0];
    assert_eq!(
        event.event_id.as_str(),
        "braze_status:component:c:20240115T110000125Z"
    );
    assert_eq!(
        (event.kind, event.severity),
        (Kind::Status, Severity::Warning)
    );
    assert_eq!(event.summary, "Dashboard is degraded_performance");
    assert_eq!(event.description, None);
    assert_eq!(event.started_at, at("2024-01-15T11:00:00.125Z"));
}

#[test]
fn times_that_are_missing_fall_back() {
    for (incident, started_at) in [
        (
            json!({"id": "i", "created_at": "2024-01-15T10:00:00Z"}),
            "2024-01-15T10:00:00Z",
        ),
        (
            json!({"id": "i", "updated_at": "2024-01-15T11:00:00Z"}),
            "2024-01-15T11:00:00Z",
        ),
        (json!({"id": "i"}), "2024-01-15T12:00:00Z"),
    ] {
        let page = read(&json!({"page": {}, "incidents": [incident]}));
        let plan = diff(&braze(), &page, &[], noon());
        assert_eq!(plan.store[0].started_at, at(started_at), "{incident}");
        assert_eq!(plan.store[0].service, "braze_status");
    }
    let plan = diff(
        &braze(),
        &with_component("major_outage", "soon"),
        &[],
        noon(),
    );
    assert_eq!(
        plan.store[0].event_id.as_str(),
        "braze_status:component:c:20240115T120000000Z"
    );
    assert_eq!(plan.store[0].started_at, noon());
}

#[test]
fn an_incident_first_seen_ended_is_stored_as_ended() {
    for (fields, resolved_at) in [
        (
            json!({"status": "resolved", "updated_at": "2024-01-15T11:00:00Z"}),
            Some("2024-01-15T11:00:00Z"),
        ),
        (
            json!({"status": "postmortem"}),
            Some("2024-01-15T12:00:00Z"),
        ),
        (
            json!({"status": "resolved", "resolved_at": "2024-01-15T10:30:00Z", "updated_at": "2024-01-15T11:00:00Z"}),
            Some("2024-01-15T10:30:00Z"),
        ),
        (
            json!({"status": "monitoring", "resolved_at": "2024-01-15T10:30:00Z"}),
            Some("2024-01-15T10:30:00Z"),
        ),
        (json!({"status": "monitoring", "resolved_at": null}), None),
        (json!({}), None),
    ] {
        let mut incident = json!({"id": "i", "impact": "critical"});
        incident
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let page = read(&json!({"page": {}, "incidents": [incident]}));
        let plan = diff(&braze(), &page, &[], noon());
        assert_eq!(plan.store[0].resolved_at, resolved_at.map(at), "{fields}");
        assert_eq!(plan.fetched, 1);
    }
}

#[test]
fn unknown_words_are_warnings_and_counted() {
    let page = read(&json!({
        "page": {},
        "incidents": [{"id": "i", "impact": "catastrophic"}],
        "components": [{"id": "c", "name": "API", "status": "on\tfire"}],
    }));

    let plan = diff(&braze(), &page, &[], noon());

    assert_eq!(plan.unknown, 2);
    assert_eq!(plan.store[1].summary, "API is on fire");
    assert!(
        plan.store
            .iter()
            .all(|event| event.severity == Severity::Warning)
    );
}

#[test]
fn an_episode_goes_on_until_the_component_is_well_and_the_next_one_is_another_event() {
    let mut store = Store::default();
    for (status, updated_at, expected) in [
        ("degraded_performance", "2024-01-15T10:00:00Z", (1, 0)),
        ("degraded_performance", "2024-01-15T10:00:00Z", (0, 0)),
        ("degraded_performance", "2024-01-15T10:05:00Z", (0, 0)),
        ("major_outage", "2024-01-15T10:10:00Z", (0, 0)),
        // An old page out of a vendor's cache.
        ("operational", "2024-01-15T09:00:00Z", (0, 0)),
        ("operational", "2024-01-15T10:20:00Z", (0, 1)),
        ("operational", "2024-01-15T10:20:00Z", (0, 0)),
        ("degraded_performance", "2024-01-15T10:00:00Z", (0, 0)),
        ("partial_outage", "2024-01-15T10:30:00Z", (1, 0)),
        ("under_maintenance", "2024-01-15T10:40:00Z", (0, 1)),
    ] {
        let changed = store.poll(&with_component(status, updated_at));
        assert_eq!(changed, expected, "{status} at {updated_at}");
    }
    let ends: Vec<_> = store
        .0
        .values()
        .filter_map(|event| event.resolved_at)
        .collect();
    assert_eq!(
        ends,
        [at("2024-01-15T10:20:00Z"), at("2024-01-15T10:40:00Z")]
    );
}

#[test]
fn a_component_that_is_not_on_the_page_says_nothing() {
    let mut store = Store::default();
    store.poll(&with_component("major_outage", "2024-01-15T10:00:00Z"));

    for body in [
        json!({"page": {}}),
        json!({"page": {}, "components": []}),
        json!({"page": {}, "components": [{"id": "c:", "status": "operational"}, {"id": "", "status": "operational"}]}),
        json!({"page": {}, "components": [{"id": "c", "status": "operational", "group": true}]}),
    ] {
        assert_eq!(store.poll(&read(&body)), (0, 0), "{body}");
    }
}

#[test]
fn of_rows_with_one_id_the_one_updated_last_counts() {
    let row = |status: &str, minute: u8| json!({"id": "c", "status": status, "updated_at": format!("2024-01-15T10:{minute:02}:00Z")});
    for rows in [
        [row("operational", 1), row("major_outage", 2)],
        [row("major_outage", 2), row("operational", 1)],
    ] {
        let plan = diff(
            &braze(),
            &read(&json!({"page": {}, "components": rows})),
            &[],
            noon(),
        );
        assert_eq!((plan.fetched, plan.store.len()), (1, 1));
    }
}

fn counts(source: &str, body: &[u8]) -> (usize, usize) {
    let page = page::parse(body).unwrap();
    let plan = diff(&Source::parse(source).unwrap(), &page, &[], noon());
    assert!(
        plan.store
            .iter()
            .all(|event| EventId::parse(event.event_id.as_str()).is_some())
    );
    assert_eq!(plan.unknown, 0);
    (plan.fetched, plan.malformed)
}

/// Real pages, where the machine has them.
fn samples(folder: &str) -> Option<std::path::PathBuf> {
    let path = Path::new("/work/shared/samples/statuspage").join(folder);
    if !path.exists() {
        println!("skipped: {} is not on this machine", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn real_pages_are_read_whole() {
    let Some(root) = samples("") else { return };
    for (file, expected) in [
        ("github/all_operational.json", (0, 0)),
        (
            "github/maintenance_in_progress_under_maintenance.json",
            (0, 0),
        ),
        ("github/component_degraded_without_incident.json", (1, 0)),
        (
            "github/incident_open_all_components_operational.json",
            (1, 0),
        ),
        ("iterable/all_operational_2017.json", (0, 0)),
        ("claude_sparse_fields_incident.json", (2, 0)),
        ("incident_io_compat/openai_no_incidents_key.json", (0, 0)),
        ("incident_io_compat/openai_no_ids_no_indicator.json", (0, 2)),
    ] {
        let body = std::fs::read(root.join(file)).unwrap();
        assert_eq!(counts("github_status", &body), expected, "{file}");
    }
}

/// Every page against a second reading of it, by `serde_json::Value`.
#[test]
fn group_rows_of_real_pages_are_skipped_and_all_others_count() {
    for folder in ["digitalocean", "oci", "github"] {
        let Some(folder) = samples(folder) else {
            return;
        };
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let body = std::fs::read(&path).unwrap();
            let value: Value = serde_json::from_slice(&body).unwrap();
            if !value["page"].is_object() {
                continue;
            }
            let incidents = value["incidents"].as_array().map_or(0, Vec::len);
            let bad = value["components"].as_array().map_or(0, |rows| {
                rows.iter()
                    .filter(|row| row["group"] != true)
                    .filter(|row| {
                        row["status"] != "operational" && row["status"] != "under_maintenance"
                    })
                    .count()
            });
            assert_eq!(
                counts("x_status", &body),
                (incidents + bad, 0),
                "{}",
                path.display()
            );
        }
    }
}

/// The counts are of another implementation, written from the same rules.
#[test]
fn real_histories_make_one_event_for_each_episode() {
    let Some(root) = samples("replay") else {
        return;
    };
    let expected = std::fs::read(root.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    for file in [
        "github_component_flaps_3_episodes.jsonl",
        "github_escalation_minor_to_critical.jsonl",
        "digitalocean_stale_cdn_incident_vanishes_and_reappears.jsonl",
    ] {
        let mut store = Store::default();
        let mut closed = 0;
        for line in std::fs::read_to_string(root.join(file)).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if line["body"].is_object() {
                closed += store.poll(&read(&line["body"])).1;
            }
        }
        let stored = |kind: Kind| store.0.values().filter(|event| event.kind == kind).count();
        let expected = &expected[file]["absence_confirmations=2"];
        let count = |name: &str| expected[name].as_u64().unwrap_or_default() as usize;
        assert_eq!(stored(Kind::Status), count("comp_created"), "{file}");
        assert_eq!(closed, count("comp_closed"), "{file}");
        assert_eq!(stored(Kind::Incident), count("inc_created"), "{file}");
    }
}

prop_compose! {
    fn any_component()(
        id in prop::sample::select(vec!["a", "b", "a:b", "a b"]),
        status in prop::sample::select(vec![
            "operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance", "odd",
        ]),
        minute in prop::option::of(0..60_u8),
        group in prop::bool::weighted(0.1),
    ) -> Value {
        let updated_at = minute.map(|minute| format!("2024-01-15T10:{minute:02}:00Z"));
        json!({"id": id, "name": id, "status": status, "updated_at": updated_at, "group": group})
    }
}

prop_compose! {
    fn any_incident()(
        id in prop::sample::select(vec!["a", "b", "c"]),
        status in prop::sample::select(vec!["investigating", "monitoring", "resolved"]),
        impact in prop::sample::select(vec!["none", "minor", "major", "odd"]),
    ) -> Value {
        json!({"id": id, "status": status, "impact": impact, "created_at": "2024-01-15T09:00:00Z"})
    }
}

prop_compose! {
    fn any_page()(
        components in prop::option::of(prop::collection::vec(any_component(), 0..6)),
        incidents in prop::option::of(prop::collection::vec(any_incident(), 0..4)),
    ) -> Page {
        read(&json!({"page": {"name": "P"}, "components": components, "incidents": incidents}))
    }
}

/// Any JSON, with the names of a status page likely in it.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "page",
        "name",
        "id",
        "incidents",
        "components",
        "status",
        "impact",
        "updated_at",
        "created_at",
        "group",
        "incident_updates",
        "body",
        "resolved_at",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("-009999-01-02T00:00:00Z")),
        Just(json!("9999-12-30T22:00:00.999999999Z")),
        Just(json!("resolved")),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..8).prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn a_page_that_has_been_applied_changes_nothing_more(pages in prop::collection::vec(any_page(), 1..12)) {
        let mut store = Store::default();
        for page in &pages {
            store.poll(page);
            prop_assert_eq!(store.poll(page), (0, 0));
        }
    }

    #[test]
    fn no_component_has_two_open_episodes(pages in prop::collection::vec(any_page(), 1..12)) {
        let mut store = Store::default();
        for page in &pages {
            store.poll(page);
            let mut components: Vec<String> = store
                .open()
                .iter()
                .filter_map(|open| Some(open.event_id.as_str().rsplit_once(':')?.0.to_owned()))
                .filter(|prefix| prefix.starts_with("braze_status:component:"))
                .collect();
            let open = components.len();
            components.dedup();
            prop_assert_eq!(components.len(), open);
        }
    }

    #[test]
    fn any_json_is_read_or_refused_without_a_panic(head in any_json(), incidents in any_json(), components in any_json()) {
        let body = json!({"page": head, "incidents": incidents, "components": components});
        for body in [body.to_string(), head.to_string()] {
            if let Ok(page) = page::parse(body.as_bytes()) {
                let plan = diff(&braze(), &page, &[], noon());
                for event in plan.store {
                    prop_assert!(event.summary.len() <= 4 * 600);
                    prop_assert!(!event.summary.chars().any(char::is_control));
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _read_or_refused = page::parse(&body);
    }
}
