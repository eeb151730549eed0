//! The `signalpost` command, from an empty folder to a page.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::{binaries, repository};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

async fn signalpost(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::folder().await.unwrap().join("signalpost"));
    command
        .args(arguments)
        .env_clear()
        .env("GATEWAY_PORT", "0")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn output(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = signalpost(folder, arguments).await;
    command.output().await.unwrap()
}

/// Reads what `up` prints until it says where it answers.
async fn gateway_url(up: &mut Child) -> String {
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let url = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Some((_, url)) = line.split_once("Signalpost answers at ") {
            break url.to_owned();
        }
    };
    // Read on, or the services' logs would fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    url
}

#[tokio::test]
async fn from_a_fresh_env_file_up_runs_everything_and_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    for file in [".env.example", "scripts/env-file"] {
        std::fs::copy(repository::root().join(file), folder.path().join(file)).unwrap();
    }
    let script = folder.path().join("scripts/env-file");
    // Read by a shell: executed, it is "busy" where another test's child holds the copy's descriptor for a moment.
    let written = Command::new("sh").arg(script).output().await.unwrap();
    let payload = repository::root().join("fixtures/stripe/payout_failed.json");
    let payload = payload.to_str().unwrap();

    let mut up = signalpost(folder.path(), &["up"]).await.spawn().unwrap();
    let url = tokio::time::timeout(PATIENCE, gateway_url(&mut up))
        .await
        .unwrap();
    let sent = output(
        folder.path(),
        &["send", "stripe", payload, "--gateway", &url],
    )
    .await;
    let again = output(
        folder.path(),
        &["send", "stripe", payload, "--gateway", &url],
    )
    .await;
    let renamed = output(
        folder.path(),
        &["send", "stripe", payload, "--gateway", &url, "--new-id"],
    )
    .await;
    let health = output(folder.path(), &["healthcheck", &format!("{url}/healthz")]).await;
    let table = eventually("the page in the table", PATIENCE, async || {
        let table = output(folder.path(), &["events", "--gateway", &url]).await;
        let text = String::from_utf8(table.stdout).unwrap();
        if text.matches("pagerduty").count() == 2 {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await
    .unwrap();
    let pid = Pid::from_raw(i32::try_from(up.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = tokio::time::timeout(PATIENCE, up.wait())
        .await
        .unwrap()
        .unwrap();

    assert!(written.status.success());
    let env_file = folder.path().join(".env");
    let mode = std::fs::metadata(&env_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = std::fs::read_to_string(&env_file).unwrap();
    assert!(secret.contains("\nSTRIPE_WEBHOOK_SECRET=whsec_"));
    assert!(secret.contains("\nSIGNALPOST_INTERNAL_KEY="));
    assert_eq!(
        String::from_utf8_lossy(&sent.stdout),
        "200 OK\n{\"received\":true}\n"
    );
    assert!(String::from_utf8_lossy(&again.stdout).contains("deduped"));
    assert_eq!(
        String::from_utf8_lossy(&renamed.stdout),
        "200 OK\n{\"received\":true}\n"
    );
    assert!(health.status.success());
    assert!(table.contains("evt_1abc"), "{table}");
    assert!(ended.success());
    let dead = output(folder.path(), &["healthcheck", &format!("{url}/healthz")]).await;
    assert!(!dead.status.success());
}

/// Runs `scripts/env-file` on a `.env` that is there.
async fn env_file_over(text: &str) -> (String, u32) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    let script = folder.path().join("scripts/env-file");
    std::fs::copy(repository::root().join("scripts/env-file"), &script).unwrap();
    let env_file = folder.path().join(".env");
    std::fs::write(&env_file, text).unwrap();
    let run = Command::new("sh").arg(script).output().await.unwrap();
    assert!(run.status.success(), "{run:?}");
    let mode = std::fs::metadata(&env_file).unwrap().permissions().mode();
    (std::fs::read_to_string(env_file).unwrap(), mode & 0o777)
}

#[tokio::test]
async fn a_key_is_added_to_an_env_file_that_has_none_and_to_no_other() {
    for before in [
        "STRIPE_WEBHOOK_SECRET=whsec_kept\n",
        "STRIPE_WEBHOOK_SECRET=whsec_kept",
        "SIGNALPOST_INTERNAL_KEY=\nSTRIPE_WEBHOOK_SECRET=whsec_kept\n",
        "#SIGNALPOST_INTERNAL_KEY=key-of-a-comment\n",
        "SIGNALPOST_INTERNAL_KEY=\"\"\r\n",
        "",
    ] {
        let (after, mode) = env_file_over(before).await;
        assert_eq!(mode, 0o600, "{before:?}");
        let added = after.strip_prefix(before).unwrap();
        let key = added
            .trim()
            .rsplit_once("SIGNALPOST_INTERNAL_KEY=")
            .unwrap()
            .1;
        assert_eq!(key.len(), 64, "{added}");
    }
    for before in [
        "SIGNALPOST_INTERNAL_KEY=key-of-the-tests\n",
        "export SIGNALPOST_INTERNAL_KEY = \"key-of-the-tests\"\n",
    ] {
        assert_eq!(env_file_over(before).await.0, before);
    }
}

#[tokio::test]
async fn up_tells_at_once_what_is_wrong_with_the_settings() {
    for (settings, complaint) in [
        (
            "STRIPE_WEBHOOK_SECRET=\n",
            "STRIPE_WEBHOOK_SECRET: required",
        ),
        (
            "STRIPE_WEBHOOK_SECRET=whsec_x\nROUTE_WARNING=maybe\n",
            "ROUTE_WARNING: ",
        ),
        (
            "STRIPE_WEBHOOK_SECRET=whsec_x\nDELIVERY_SCHEDULE_S=soon\n",
            "DELIVERY_SCHEDULE_S: ",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), settings).unwrap();

        let mut up = signalpost(folder.path(), &["up"]).await;
        let output = tokio::time::timeout(PATIENCE, up.output())
            .await
            .unwrap()
            .unwrap();

        assert!(!output.status.success(), "{settings:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(complaint), "{settings:?}: {told}");
    }
}
