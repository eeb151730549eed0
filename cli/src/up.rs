//! `signalpost up`: every service on this machine, one command.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::Context as _;
use runtime::{config, internal_key};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::output::{self, print_lines, say_aside};
use crate::settings::Settings;
use crate::supervisor::{Line, Options, Supervisor};

/// Lines that wait for a slow terminal.
const LINES_WAITING: usize = 1024;
/// How long the last lines are waited for.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Runs until a signal, then stops the services in order. A second signal kills them.
pub async fn run() -> anyhow::Result<()> {
    let settings = Settings::read()?;
    let mut signals = Signals::listen()?;
    let (lines, received) = mpsc::channel(LINES_WAITING);
    let printed = print_lines(received);

    let starting = Supervisor::start(options(&settings, lines)?);
    let mut supervisor = tokio::select! {
        started = starting => started?,
        () = signals.next() => return Ok(()),
    };
    say_aside(overview(&supervisor, &settings));
    signals.next().await;
    say_aside("signalpost: stopping (once more to kill)".to_owned());
    tokio::select! {
        () = supervisor.stop() => {}
        () = signals.next() => {}
    }
    drop(supervisor);
    let _printed = tokio::time::timeout(LAST_LINES, printed).await;
    Ok(())
}

fn options(settings: &Settings, lines: mpsc::Sender<Line>) -> anyhow::Result<Options> {
    let executable = std::env::current_exe().context("finding the services' executables")?;
    let bin_dir = executable
        .parent()
        .context("the executable is in no folder")?;
    let mut environment = BTreeMap::new();
    if !settings.pagerduty_url.0.is_empty() {
        environment.insert(
            "PAGERDUTY_URL".to_owned(),
            settings.pagerduty_url.to_string(),
        );
    }
    // Logging starts before a service reads its `.env`.
    if let Some(level) = &settings.log_level {
        environment.insert("LOG_LEVEL".to_owned(), level.clone());
    }
    // The one in `.env` is the containers': a key that was made for this start lies in no file.
    if let Some(key) = config::of_the_environment(internal_key::VARIABLE) {
        environment.insert(internal_key::VARIABLE.to_owned(), key);
    }
    Ok(Options {
        bin_dir: bin_dir.to_owned(),
        working_dir: None,
        inherit_environment: true,
        environment,
        gateway_host: settings.gateway_host.clone(),
        gateway_port: settings.gateway_port,
        lines,
    })
}

fn overview(supervisor: &Supervisor, settings: &Settings) -> String {
    let mut table = output::table(["SERVICE", "ADDRESS", "PID"]);
    let mut port = settings.gateway_port;
    for (service, address, pid) in supervisor.services() {
        if service == "gateway" {
            port = address.port();
        }
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        table.add_row([service.to_owned(), address.to_string(), pid]);
    }
    let url = settings.gateway_url_at(port);
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "signalpost".to_owned());
    format!(
        "\n{table}\n\nSignalpost answers at {url}\n\
         Try, from another terminal in this folder:\n  \
         {program} send stripe fixtures/stripe/payout_failed.json\n  \
         curl -s {url}/destinations/pagerduty\n  \
         kill -9 PID of any service: it is started again\n\
         Ctrl-C stops all\n"
    )
}

/// SIGINT, SIGTERM, and the SIGHUP of a terminal that is closed.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
