//! The services' executables, as `make` builds them.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::repository;

/// Builds what has changed, once a process, and answers the folder. Does next to nothing after `make test`'s own build.
pub async fn folder() -> anyhow::Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_try_init(build).await.cloned()
}

async fn build() -> anyhow::Result<PathBuf> {
    // target/…/PROFILE/deps/stack-0123
    let test = std::env::current_exe().context("finding this test")?;
    let folder = test
        .ancestors()
        .find(|path| !path.ends_with("deps") && path.is_dir())
        .context("this test is in no folder")?
        .to_owned();
    let mut command = Command::new(env!("CARGO"));
    command
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--exclude",
            "system-tests",
            "--bins",
        ])
        .current_dir(repository::root())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().await.context("building the services")?;
    ensure!(status.success(), "building the services: {status}");
    Ok(folder)
}
