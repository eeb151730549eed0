//! The `signalpost` command, from an empty folder to a page.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::{binaries, repository};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
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

/// Sends a signal to the supervisor.
fn signal(up: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(up.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The processes whose executable lies beside the command's and that were started in this folder.
fn running_in(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap();
    let of_the_folder = processes.filter_map(|process| {
        let process = process.ok()?.path();
        let here = std::fs::read_link(process.join("cwd")).ok()? == folder;
        here.then(|| std::fs::read_to_string(process.join("comm")).ok())?
    });
    of_the_folder.collect()
}

#[tokio::test]
async fn services_whose_supervisor_was_killed_stop_and_leave_the_folder_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let mut up = signalpost(folder.path(), &["up"]).await;
        up.env("STRIPE_WEBHOOK_SECRET", "whsec_of_the_tests");
        let mut up = up.spawn().unwrap();
        let url = tokio::time::timeout(PATIENCE, gateway_url(&mut up)).await;
        (up, url.unwrap())
    };
    let (mut first, _) = start().await;
    assert_eq!(running_in(folder.path()).len(), 8);

    signal(&first, Signal::KILL);
    first.wait().await.unwrap();

    eventually("all services end", PATIENCE, async || {
        let left = running_in(folder.path());
        left.is_empty().then_some(()).ok_or(left)
    })
    .await
    .unwrap();
    let (mut next, url) = start().await;
    let health = output(folder.path(), &["healthcheck", &format!("{url}/healthz")]).await;
    assert!(health.status.success());
    signal(&next, Signal::INT);
    assert!(next.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_second_owner_of_a_store_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let delivery = binaries::folder().await.unwrap().join("delivery");
    let start = || {
        let mut command = Command::new(&delivery);
        command
            .env_clear()
            .env("SIGNALPOST_INTERNAL_KEY", "key-of-the-tests")
            .env("DELIVERY_PORT", "0")
            .env("RUST_BACKTRACE", "1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().unwrap()
    };
    let mut first = start();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    while !lines
        .next_line()
        .await
        .unwrap()
        .unwrap()
        .contains("listening")
    {}

    let second = tokio::time::timeout(PATIENCE, start().wait_with_output()).await;

    let told = String::from_utf8(second.unwrap().unwrap().stderr).unwrap();
    let holder = format!("(delivery, pid {})", first.id().unwrap());
    assert!(told.contains(&holder), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

/// The end of a pipe that takes no more: as where a terminal was stopped, or a pager is not read on.
fn blocked() -> (std::io::PipeReader, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    // Opened anew, it can be filled without blocking, and the child's end blocks as ever.
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut filling = std::fs::File::options();
    filling
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let mut filling = filling.open(path).unwrap();
    while filling.write(b"x").is_ok() {}
    (reader, writer.into())
}

/// Nobody listens there now.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn up_stops_on_a_signal_though_nobody_reads_what_it_says() {
    for signal_sent in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().await;
        let (_unread, stdout) = blocked();
        let mut up = signalpost(folder.path(), &["up"]).await;
        let mut up = up
            .env("STRIPE_WEBHOOK_SECRET", "whsec_of_the_tests")
            .env("GATEWAY_PORT", port.to_string())
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}/healthz");
        eventually("the gateway", PATIENCE, async || {
            let health = output(folder.path(), &["healthcheck", &url]).await;
            health.status.success().then_some(()).ok_or(health)
        })
        .await
        .unwrap();

        signal(&up, signal_sent);

        let ended = tokio::time::timeout(PATIENCE, up.wait()).await;
        assert!(ended.unwrap().unwrap().success());
        assert!(running_in(folder.path()).is_empty());
    }
}

#[tokio::test]
async fn a_failing_command_says_why_in_words_and_shows_no_backtrace() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, word) in [
        (
            &["events", "--gateway", "http://127.0.0.1:9"][..],
            "asking http://127.0.0.1:9",
        ),
        (
            &["events", "--gateway", "nonsense"],
            "is not the URL of a gateway",
        ),
        (
            &["send", "stripe", "no-such-file"],
            "set STRIPE_WEBHOOK_SECRET",
        ),
        (&["healthcheck", "http://127.0.0.1:9/"], "127.0.0.1:9"),
        (&["up"], "STRIPE_WEBHOOK_SECRET: required"),
    ] {
        let mut command = signalpost(folder.path(), arguments).await;
        command
            .env("STRIPE_API_KEY", "")
            .env("RUST_BACKTRACE", "full")
            .env("RUST_LIB_BACKTRACE", "1");
        let failed = command.output().await.unwrap();

        let told = String::from_utf8(failed.stderr).unwrap();
        assert!(!failed.status.success(), "{arguments:?}");
        assert!(told.starts_with("Error: ") && told.contains(word), "{told}");
        for debug in ["backtrace", "Caused by", "Os {", "reqwest::Error"] {
            assert!(!told.contains(debug), "{arguments:?}: {told}");
        }
    }
}
