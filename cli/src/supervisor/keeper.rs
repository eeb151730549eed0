//! Keeps one service running.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Line;
use super::child::{self, Launch};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// One that has lived so long did not die of its start.
const STEADY: Duration = Duration::from_secs(10);

pub(super) struct Keeper {
    pub(super) service: &'static str,
    pub(super) address: SocketAddr,
    pid: watch::Receiver<Option<u32>>,
    held: watch::Sender<bool>,
    stopping: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Watches a child that listens at the address.
    pub(super) fn keep(launch: Arc<Launch>, child: Child, address: SocketAddr) -> Self {
        let (pid_now, pid) = watch::channel(child.id());
        let (held, held_now) = watch::channel(false);
        let stopping = CancellationToken::new();
        let watcher = Watcher {
            launch: Arc::clone(&launch),
            port: address.port(),
            pid: pid_now,
            held: held_now,
        };
        let task = tokio::spawn(watcher.run(child, stopping.clone()));
        Self {
            service: launch.service,
            address,
            pid,
            held,
            stopping,
            task: Some(task),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    pub(super) fn kill(&self) {
        if let Some(pid) = self.pid() {
            child::kill(pid);
        }
    }

    /// Kills the child, and starts none until it is let go.
    pub(super) async fn hold(&self) {
        self.held.send_replace(true);
        // An error says that there is no watcher any more, and so no child.
        let _dead = self.pid.clone().wait_for(Option::is_none).await.is_ok();
    }

    pub(super) fn let_go(&self) {
        self.held.send_replace(false);
    }

    /// Stops the child and ends.
    pub(super) async fn stop(&mut self) {
        self.stopping.cancel();
        if let Some(task) = self.task.take() {
            let _panicked = task.await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // The task's own end comes too late when a test has failed and the runtime is going.
            self.kill();
        }
    }
}

struct Watcher {
    launch: Arc<Launch>,
    port: u16,
    pid: watch::Sender<Option<u32>>,
    held: watch::Receiver<bool>,
}

impl Watcher {
    async fn run(mut self, mut child: Child, stopping: CancellationToken) {
        let mut backoff = BACKOFF_MIN;
        let mut started = Instant::now();
        loop {
            let ended = tokio::select! {
                ended = child.wait() => ended,
                () = until_held(&mut self.held) => {
                    child::kill(child.id().unwrap_or_default());
                    child.wait().await
                }
                () = stopping.cancelled() => {
                    child::stop(&mut child).await;
                    self.pid.send_replace(None);
                    return;
                }
            };
            self.pid.send_replace(None);
            let how = ended.map_or_else(|fault| fault.to_string(), |status| status.to_string());
            if started.elapsed() >= STEADY {
                backoff = BACKOFF_MIN;
            }
            self.say(&format!("died ({how}), starting again"));
            child = tokio::select! {
                child = self.start_again(&mut backoff) => child,
                () = stopping.cancelled() => return,
            };
            started = Instant::now();
            self.pid.send_replace(child.id());
            let pid = child.id().unwrap_or_default();
            self.say(&format!("started again, pid {pid}"));
        }
    }

    async fn start_again(&mut self, backoff: &mut Duration) -> Child {
        loop {
            tokio::time::sleep(*backoff).await;
            *backoff = (*backoff * 2).min(BACKOFF_MAX);
            // An error says that the supervisor is gone, and with it the wish to hold.
            let _held = self.held.wait_for(|held| !held).await.is_ok();
            match self.launch.start_again(self.port) {
                Ok(child) => return child,
                Err(fault) => self.say(&format!("could not be started: {fault:#}")),
            }
        }
    }

    /// Where nobody reads, the words are lost: what is said must not hold up what is done.
    fn say(&self, text: &str) {
        let service = self.launch.service;
        let text = format!("signalpost: {service} {text}");
        let _unread = self.launch.lines.try_send(Line { service, text });
    }
}

async fn until_held(held: &mut watch::Receiver<bool>) {
    if held.wait_for(|held| *held).await.is_err() {
        // The supervisor is gone, and this task is about to be.
        std::future::pending().await
    }
}
