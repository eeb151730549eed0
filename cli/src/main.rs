//! `signalpost`: runs every service of this machine, sends signed fixtures, shows what became of them, receives webhooks.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runtime::failure;
use signalpost::{
    backup, deliveries, endpoints, events, healthcheck, listen, output, pages, send, up,
};

#[derive(Parser)]
#[command(name = "signalpost", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start every service as a child process on loopback; Ctrl-C stops them all
    Up,
    /// Sign a payload and post it to the gateway
    Send {
        #[command(subcommand)]
        what: Send,
    },
    /// List the newest events
    Events(events::Arguments),
    /// List clients and their endpoints; `add` registers one
    Endpoints(endpoints::Arguments),
    /// List the newest deliveries; `show` tells one with its attempts
    Deliveries(deliveries::Arguments),
    /// Send a delivery again, whatever became of it
    Retry(deliveries::Retry),
    /// List the pages that nobody on call has got; `resend` sends them again
    Pages(pages::Arguments),
    /// Receive webhooks: print them, verify them, answer as told
    Listen(listen::Arguments),
    /// Copy the stores of running services into a directory
    Backup(backup::Arguments),
    /// Exit with 0 if the URL answers 2xx within 2 s
    Healthcheck { url: String },
}

#[derive(Subcommand)]
enum Send {
    /// A Stripe event, signed as Stripe does
    Stripe(send::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    std::panic::set_hook(Box::new(output::tell_of_a_panic));
    failure::exit_code(run(Cli::parse().command).await)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up => up::run().await,
        Command::Send {
            what: Send::Stripe(arguments),
        } => send::run(arguments).await,
        Command::Events(arguments) => events::run(arguments).await,
        Command::Endpoints(arguments) => endpoints::run(arguments).await,
        Command::Deliveries(arguments) => deliveries::run(arguments).await,
        Command::Retry(arguments) => deliveries::retry(arguments).await,
        Command::Pages(arguments) => pages::run(arguments).await,
        Command::Listen(arguments) => listen::run(arguments).await,
        Command::Backup(arguments) => backup::run(arguments).await,
        Command::Healthcheck { url } => healthcheck::run(&url).await,
    }
}
