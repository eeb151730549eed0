//! `signalpost listen`: a webhook receiver for people, demonstrations and tests.

mod print;
mod receiver;
mod routes;

use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use runtime::clock::Clock;
use runtime::config::listen_addr;
use runtime::server::{self, Limits};
use runtime::shutdown;
use signature::standard::Key;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use print::Show;
pub use receiver::Behaviour;

use crate::settings::Settings;
use print::Printer;
use receiver::Receiver;

/// The longest `--delay-ms`; no sender waits longer.
const DELAY_MAX_MS: u64 = 600_000;

/// Keeps nobody when it is told to stop: what is in flight is cut off, as by a receiver that dies.
fn limits() -> Limits {
    Limits {
        max_connections: 16_384,
        drain: Duration::ZERO,
        ..Limits::INTERNAL
    }
}

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// 0 takes a free one and prints it
    #[arg(long, default_value_t = 4000)]
    port: u16,
    /// Verify with this secret, answering 401 where it does not fit; a comma list while one is rotated
    /// [default: SIGNALPOST_LISTEN_SECRET, else nothing is verified]
    #[arg(long, value_name = "WHSEC", value_delimiter = ',')]
    secret: Vec<String>,
    /// What is answered
    #[arg(long, default_value = "200", value_parser = status)]
    status: StatusCode,
    /// Milliseconds before every answer
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=DELAY_MAX_MS))]
    delay_ms: u64,
    /// Fail the first N requests
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_first: u64,
    /// Fail every K-th request
    #[arg(long, value_name = "K")]
    fail_every: Option<NonZeroU64>,
    /// What a failing request is answered
    #[arg(long, default_value = "500", value_parser = status)]
    fail_status: StatusCode,
    /// Retry-After of failing answers, in seconds
    #[arg(long, value_name = "S")]
    retry_after: Option<u64>,
    /// Never answer
    #[arg(long)]
    hang: bool,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "body")]
    json: bool,
    /// Print the beginning of each body too
    #[arg(long)]
    body: bool,
    /// Print nothing for each request, only the counts at the end
    #[arg(long, conflicts_with = "body")]
    quiet: bool,
}

/// How to receive; [`Default`] verifies nothing, answers 200 and prints nothing.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Without one, nothing is verified.
    pub keys: Vec<Key>,
    pub behaviour: Behaviour,
    pub show: Show,
}

impl Arguments {
    /// Where to listen.
    pub fn listen_addr(&self) -> String {
        listen_addr(&self.host, self.port)
    }

    /// What the arguments ask for, with the settings' secrets if they name none.
    pub fn options(&self, settings: &Settings) -> anyhow::Result<Options> {
        let keys = if self.secret.is_empty() {
            keys(settings.signalpost_listen_secret.expose())
        } else {
            keys(self.secret.iter().map(String::as_str))
        };
        Ok(Options {
            keys: keys?,
            behaviour: Behaviour {
                status: self.status,
                delay: Duration::from_millis(self.delay_ms),
                fail_first: self.fail_first,
                fail_every: self.fail_every,
                fail_status: self.fail_status,
                retry_after_s: self.retry_after,
                hang: self.hang,
            },
            show: Show {
                summary: true,
                requests: !self.quiet,
                body: self.body,
                json: self.json,
            },
        })
    }
}

fn keys<'s>(secrets: impl Iterator<Item = &'s str>) -> anyhow::Result<Vec<Key>> {
    secrets
        .map(str::trim)
        .enumerate()
        .map(|(n, secret)| Key::parse(secret).with_context(|| format!("secret {}", n + 1)))
        .collect()
}

fn status(text: &str) -> Result<StatusCode, String> {
    let code = text.parse().ok().filter(|code| (200..600).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| "a status is 200 to 599".to_owned())
}

/// Receives until SIGTERM or SIGINT, which end it at once.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let options = arguments.options(&Settings::read()?)?;
    let shutdown = shutdown::on_signal()?;
    let listener = server::bind(&arguments.listen_addr()).await?;
    Ok(serve(listener, options, Clock::system(), shutdown).await?)
}

/// Receives until the token is cancelled.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    clock: Clock,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (printer, printed) = Printer::start(options.show);
    let desk = Arc::new(Desk {
        keys: options.keys,
        behaviour: options.behaviour,
        clock,
        receiver: Mutex::default(),
        printer,
        stopping: shutdown.clone(),
    });
    desk.printer.listening(address);
    let router = routes::router(Arc::clone(&desk));
    let served = server::serve(listener, router, limits(), shutdown).await;
    let counts = desk.receiver().counts();
    desk.printer.end(counts, printed).await;
    served
}

/// What the handlers share.
struct Desk {
    keys: Vec<Key>,
    behaviour: Behaviour,
    clock: Clock,
    receiver: Mutex<Receiver>,
    printer: Printer,
    /// Ends the requests that are kept waiting.
    stopping: CancellationToken,
}

impl Desk {
    // What a panicking holder left behind is whole: every change is a count or a push.
    fn receiver(&self) -> MutexGuard<'_, Receiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
