//! `.env.example` lists what there is to set, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use system_tests::repository;

/// Read before the configuration, by `runtime::telemetry`.
const READ_ELSEWHERE: &str = "LOG_LEVEL";

/// Where the services are and listen is the affair of whoever starts them: `signalpost up` and the compose file.
fn is_wiring(variable: &str) -> bool {
    let service = ["_HOST", "_PORT", "_URL"]
        .iter()
        .find_map(|what| variable.strip_suffix(what));
    let inner = [
        "STRIPE_INGESTER",
        "STATUS_POLLER",
        "EVENT_STORE",
        "DELIVERY",
        "SUMMARIZER",
        "MOCK_PAGERDUTY",
    ];
    service.is_some_and(|service| inner.contains(&service)) || variable == "GATEWAY_URL"
}

/// The fields of every service's `Config` and of the command's `Settings`, as the variables that set them.
fn configurable() -> BTreeSet<String> {
    let mut variables = BTreeSet::from([READ_ELSEWHERE.to_owned()]);
    let command = repository::root().join("cli/src/settings.rs");
    variables.extend(fields_of(&command, "pub struct Settings {"));
    for service in std::fs::read_dir(repository::root().join("services")).unwrap() {
        let source = service.unwrap().path().join("src/config.rs");
        variables.extend(fields_of(&source, "pub struct Config {"));
    }
    variables
}

fn fields_of(source: &Path, structure: &str) -> Vec<String> {
    let source = std::fs::read_to_string(source).unwrap();
    let (_, after) = source.split_once(structure).unwrap();
    let (fields, _) = after.split_once("\n}").unwrap();
    fields
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
        .map(|(name, _)| name.to_uppercase())
        .collect()
}

/// What parts `.env.example`: above is what containers are handed down too.
const THIS_MACHINE_ALONE: &str = "# Below: only for services run on this machine";

/// The variables of `.env.example`, set or commented out.
fn listed() -> BTreeSet<String> {
    variables_of(&repository::read_text(".env.example").unwrap())
}

fn variables_of(example: &str) -> BTreeSet<String> {
    let names = example.lines().filter_map(|line| {
        let (name, _) = line.trim_start_matches(['#', ' ']).split_once('=')?;
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        is_name.then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn every_variable_is_in_the_example_and_no_other() {
    let configurable = configurable();
    let listed = listed();

    let unlisted: Vec<_> = configurable
        .difference(&listed)
        .filter(|variable| !is_wiring(variable))
        .collect();
    let unknown: Vec<_> = listed.difference(&configurable).collect();
    assert!(unlisted.is_empty(), "not in .env.example: {unlisted:?}");
    assert!(
        unknown.is_empty(),
        "in .env.example, but read by nobody: {unknown:?}"
    );
    assert!(configurable.len() > 20, "{configurable:?}");
}

#[test]
fn the_compose_file_hands_down_to_each_service_what_the_example_lists_for_containers() {
    let example = repository::read_text(".env.example").unwrap();
    let (containers, _) = example.split_once(THIS_MACHINE_ALONE).unwrap();
    let containers = variables_of(containers);
    let compose = repository::read_text("docker-compose.yml").unwrap();

    let mut handed_down = BTreeSet::new();
    for service in std::fs::read_dir(repository::root().join("services")).unwrap() {
        let folder = service.unwrap();
        let service = folder.file_name().into_string().unwrap();
        let source = folder.path().join("src/config.rs");
        let mut read = fields_of(&source, "pub struct Config {");
        read.push(READ_ELSEWHERE.to_owned());
        let block = block_of(&compose, &service);
        for variable in read.iter().filter(|read| containers.contains(*read)) {
            assert!(
                block.contains(&format!("${{{variable}:")),
                "{service} reads {variable}, and is not handed it"
            );
            handed_down.insert(variable.clone());
        }
    }

    assert_eq!(handed_down, containers);
}

#[test]
fn the_compose_file_asks_for_nothing_that_the_example_does_not_list_for_containers() {
    let example = repository::read_text(".env.example").unwrap();
    let (containers, _) = example.split_once(THIS_MACHINE_ALONE).unwrap();
    let compose = repository::read_text("docker-compose.yml").unwrap();

    let asked = compose.split("${").skip(1).map(|part| {
        let name = part
            .chars()
            .take_while(|c| c.is_ascii_uppercase() || *c == '_');
        name.collect::<String>()
    });

    assert_eq!(asked.collect::<BTreeSet<_>>(), variables_of(containers));
}

/// What the compose file says of a service, with what it says of the environment of all where the service takes that.
fn block_of(compose: &str, service: &str) -> String {
    let block = |head: &str| {
        let (_, after) = compose.split_once(head).unwrap();
        let end = after.find("\n\n  ").or_else(|| after.find("\n\n"));
        &after[..end.unwrap_or(after.len())]
    };
    let of_the_service = block(&format!("\n  {service}:\n"));
    if of_the_service.contains("<<: *environment\n") {
        [of_the_service, block("\nx-environment: &environment\n")].concat()
    } else {
        of_the_service.to_owned()
    }
}
