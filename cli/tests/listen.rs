//! The receiver, in process and as a process.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use runtime::clock::Clock;
use runtime::http_client;
use serde_json::{Value, json};
use signalpost::listen::{self, Behaviour, Options};
use signature::standard::{self, Key};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "whsec_c2lnbmFscG9zdC1zaWduYWxwb3N0LWNhbmFyeQ==";

struct Listening {
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

async fn listen(options: Options) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let served = listen::serve(listener, options, Clock::system(), shutdown.clone());
    Listening {
        address,
        shutdown,
        served: tokio::spawn(served),
    }
}

fn behaving(behaviour: Behaviour) -> Options {
    Options {
        behaviour,
        ..Options::default()
    }
}

fn signed(id: &str, body: &[u8]) -> HeaderMap {
    let now = Clock::system().now().as_second();
    let key = Key::parse(SECRET).unwrap();
    let mut headers = HeaderMap::new();
    let signature = standard::sign(&key, id, now, body).unwrap();
    headers.insert("webhook-id", id.parse().unwrap());
    headers.insert("webhook-timestamp", now.into());
    headers.insert("webhook-signature", signature.parse().unwrap());
    headers.insert("webhook-attempt", 3.into());
    headers
}

async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: Vec<u8>,
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = http_client::single_try(PATIENCE)
        .request(method, format!("http://{address}{path}"))
        .headers(headers)
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = http_client::read_body(response, 1 << 20).await.unwrap();
    (status, headers, body.to_vec())
}

async fn post(address: SocketAddr, headers: HeaderMap, body: &[u8]) -> (StatusCode, HeaderMap) {
    let (status, headers, _) = ask(address, Method::POST, "/hooks", headers, body.to_vec()).await;
    (status, headers)
}

async fn received(address: SocketAddr) -> Value {
    let nothing = HeaderMap::new();
    let (status, _, body) = ask(address, Method::GET, "/received", nothing, Vec::new()).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn only_what_the_secret_signed_is_taken() {
    let options = Options {
        keys: vec![Key::parse(SECRET).unwrap()],
        ..Options::default()
    };
    let listening = listen(options).await;
    let address = listening.address;

    for (headers, body, status) in [
        (signed("evt_1", b"{\"n\": 1}"), &b"{\"n\": 1}"[..], 200),
        (signed("evt_1", b"{\"n\": 1}"), b"{\"n\":1}", 401),
        (HeaderMap::new(), b"{}", 401),
    ] {
        assert_eq!(post(address, headers, body).await.0.as_u16(), status);
    }

    let told = received(address).await;
    assert_eq!(told["count"], 3);
    assert_eq!(told["distinct"], 1);
    assert_eq!(told["refused"], 2);
    let signatures: Vec<&Value> = told["received"]
        .as_array()
        .unwrap()
        .iter()
        .map(|received| &received["signature"])
        .collect();
    assert_eq!(signatures, ["missing", "invalid", "valid"]);
    let first = &told["received"][2];
    assert_eq!(first["webhook_id"], "evt_1");
    assert_eq!(first["attempt"], 3);
    assert_eq!(first["path"], "/hooks");
    assert_eq!(first["answered"], 200);
    // sha256 of {"n": 1}
    let sha256 = "e5d5f7c1d225fd6b13623ebb1b5b9d075c705659f81868b1e37005a0923b0346";
    assert_eq!(first["body_sha256"], sha256);
}

#[tokio::test]
async fn it_fails_as_told_and_can_be_emptied() {
    let behaviour = Behaviour {
        fail_first: 1,
        fail_status: StatusCode::SERVICE_UNAVAILABLE,
        retry_after_s: Some(9),
        ..Behaviour::default()
    };
    let listening = listen(behaving(behaviour)).await;
    let address = listening.address;

    let (status, headers) = post(address, signed("evt_1", b"{}"), b"{}").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers["retry-after"], "9");
    let nothing = HeaderMap::new();
    let (status, ..) = ask(address, Method::DELETE, "/received", nothing, Vec::new()).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, headers) = post(address, signed("evt_1", b"{}"), b"{}").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!headers.contains_key("retry-after"));

    let told = received(address).await;
    assert_eq!((&told["count"], &told["distinct"]), (&json!(1), &json!(1)));
    assert_eq!(told["received"][0]["signature"], "unverified");
}

#[tokio::test]
async fn what_is_no_webhook_is_not_counted() {
    let listening = listen(Options::default()).await;
    let address = listening.address;

    for (method, body, status) in [
        (Method::GET, Vec::new(), 405),
        (Method::POST, vec![b'x'; (1 << 20) + 1], 413),
        (Method::POST, vec![b'x'; 1 << 20], 200),
    ] {
        let (answered, ..) = ask(address, method, "/", HeaderMap::new(), body).await;
        assert_eq!(answered.as_u16(), status);
    }

    let told = received(address).await;
    assert_eq!(told["count"], 1);
    assert_eq!(told["received"][0]["bytes"], 1 << 20);
}

#[tokio::test]
async fn a_request_that_hangs_is_told_and_does_not_hold_up_the_end() {
    let behaviour = Behaviour {
        hang: true,
        ..Behaviour::default()
    };
    let listening = listen(behaving(behaviour)).await;
    let address = listening.address;
    let hanging = tokio::spawn(async move {
        let request = http_client::single_try(PATIENCE).post(format!("http://{address}/"));
        request.send().await
    });

    let arrives = async {
        while received(address).await["count"] == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrives).await.unwrap();
    assert_eq!(
        received(address).await["received"][0]["answered"],
        Value::Null
    );
    assert!(!hanging.is_finished());
    listening.shutdown.cancel();

    let served = tokio::time::timeout(PATIENCE, listening.served).await;
    served.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn as_a_process_it_prints_what_comes_and_sigterm_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_signalpost"))
        .args(["listen", "--port", "0", "--json"])
        .env("SIGNALPOST_LISTEN_SECRET", SECRET)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let listening = next();
    assert_eq!(listening["msg"], "listening");
    let address = listening["address"].as_str().unwrap().parse().unwrap();

    let (status, _) = post(address, signed("evt_1", b"{}"), b"{}").await;

    assert_eq!(status, StatusCode::OK);
    let line = next();
    assert_eq!(line["webhook_id"], "evt_1");
    assert_eq!(line["signature"], "valid");
    assert_eq!(line["bytes"], 2);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let stopped = next();
    assert_eq!(stopped["msg"], "stopped");
    assert_eq!(stopped["count"], 1);
}
