//! One child process: started, listened to, ended.

use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use runtime::{printable, shutdown};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Line;

/// A child that has not said where it listens by then will not.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The services drain for 10 s; containers are given 15 s.
const STOP_GRACE: Duration = Duration::from_secs(12);
/// What a dead child still has in its pipes is read within this.
const TAIL_WAIT: Duration = Duration::from_secs(1);
/// The last lines of a child that did not start.
const TAIL_LINES: usize = 20;
/// A longer line is cut in two.
const LINE_MAX: u64 = 64 * 1024;

/// What it takes to start a service, again and again.
pub(super) struct Launch {
    pub(super) service: &'static str,
    pub(super) program: PathBuf,
    pub(super) working_dir: Option<PathBuf>,
    pub(super) inherit_environment: bool,
    pub(super) environment: Vec<(String, String)>,
    pub(super) lines: mpsc::Sender<Line>,
    /// Its other end is held as long as we live.
    pub(super) alive: Arc<PipeReader>,
}

struct Started {
    child: Child,
    address: oneshot::Receiver<SocketAddr>,
    tail: Tail,
    forwarders: [JoinHandle<()>; 2],
}

impl Launch {
    /// Starts the service and waits until it listens. One that dies before tells why, and is not started again.
    pub(super) async fn first_start(&self, port: u16) -> anyhow::Result<(Child, SocketAddr)> {
        let mut started = self.spawn(port)?;
        let failed = tokio::select! {
            Ok(address) = &mut started.address => return Ok((started.child, address)),
            status = started.child.wait() => match status {
                Ok(status) => status.to_string(),
                Err(fault) => fault.to_string(),
            },
            () = tokio::time::sleep(START_TIMEOUT) => {
                format!("not listening after {} s", START_TIMEOUT.as_secs())
            }
        };
        // Without it the lines that say why could still be on their way.
        let _all_read = tokio::time::timeout(
            TAIL_WAIT,
            futures_util::future::join_all(started.forwarders),
        )
        .await;
        bail!(
            "{} did not start ({failed}):\n{}",
            self.service,
            started.tail.text()
        )
    }

    /// Starts the service where it listened before.
    pub(super) fn start_again(&self, port: u16) -> anyhow::Result<Child> {
        Ok(self.spawn(port)?.child)
    }

    fn spawn(&self, port: u16) -> anyhow::Result<Started> {
        let mut command = Command::new(&self.program);
        if !self.inherit_environment {
            command.env_clear();
        }
        if let Some(folder) = &self.working_dir {
            command.current_dir(folder);
        }
        let mut child = command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(super::variable(self.service, "PORT"), port.to_string())
            .stdin(Stdio::from(self.alive.try_clone()?))
            .env(shutdown::ENDS_WITH_STDIN, "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for us; the children are stopped in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let tail = Tail::default();
        let (announce, address) = oneshot::channel();
        let stdout = child.stdout.take().context("the child has no stdout")?;
        let stderr = child.stderr.take().context("the child has no stderr")?;
        let forwarders = [
            self.forward(stdout, &tail, Some(announce)),
            self.forward(stderr, &tail, None),
        ];
        Ok(Started {
            child,
            address,
            tail,
            forwarders,
        })
    }

    fn forward(
        &self,
        pipe: impl AsyncRead + Send + Unpin + 'static,
        tail: &Tail,
        mut announce: Option<oneshot::Sender<SocketAddr>>,
    ) -> JoinHandle<()> {
        let (service, lines, tail) = (self.service, self.lines.clone(), tail.clone());
        tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe);
            while let Ok(Some(text)) = next_line(&mut pipe).await {
                if announce.is_some()
                    && let Some(address) = listening_address(&text)
                    && let Some(announce) = announce.take()
                {
                    let _gave_up = announce.send(address);
                }
                tail.push(&text);
                // Without a reader the pipe is still emptied, or the child would stop at a full one.
                let _nobody_reads = lines.send(Line { service, text }).await;
            }
        })
    }
}

async fn next_line(pipe: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if pipe.take(LINE_MAX).read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(bytes.trim_ascii_end());
    Ok(Some(printable::plain(&text).into_owned()))
}

/// The address in `{"msg":"listening","address":"127.0.0.1:3003"}`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct Announcement<'a> {
        msg: &'a str,
        address: SocketAddr,
    }
    let announcement: Announcement<'_> = serde_json::from_str(line).ok()?;
    (announcement.msg == "listening").then_some(announcement.address)
}

#[derive(Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// Asks the child to stop, and ends it after the grace.
pub(super) async fn stop(child: &mut Child) {
    if let Some(pid) = child.id().and_then(pid) {
        // One that has just died needs no signal.
        let _gone = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(STOP_GRACE, child.wait())
        .await
        .is_err()
    {
        let _gone = child.kill().await;
    }
}

/// `kill -9` of the child and whatever it started.
pub(super) fn kill(id: u32) {
    if let Some(pid) = pid(id) {
        let _gone = kill_process_group(pid, Signal::KILL);
    }
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_announcement_tells_an_address() {
        for (line, address) in [
            (
                r#"{"ts":"x","service":"gateway","address":"127.0.0.1:81","msg":"listening"}"#,
                Some("127.0.0.1:81"),
            ),
            (r#"{"msg":"listening on","address":"127.0.0.1:81"}"#, None),
            (r#"{"msg":"listening","address":"here"}"#, None),
            ("listening 127.0.0.1:81", None),
        ] {
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!(listening_address(line), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn lines_are_bounded_and_need_not_be_utf8() {
        let mut bytes = vec![b'x'; 70_000];
        bytes.extend_from_slice(b"\n\xff\nlast");
        let mut pipe = BufReader::new(bytes.as_slice());

        let mut lengths = Vec::new();
        while let Some(line) = next_line(&mut pipe).await.unwrap() {
            lengths.push(line.chars().count());
        }

        assert_eq!(lengths, [65_536, 70_000 - 65_536, 1, 4]);
    }
}
