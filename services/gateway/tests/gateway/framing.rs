use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Fake, Running, all_at};

const TABLE: &str = include_str!("../../../../fixtures/security/framing.tsv");

/// Turns `\r \n \0 \\ \xHH` into bytes, and `{a*3}` into `aaa`.
fn bytes(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                let (escape, after) = rest.split_at(1);
                rest = after;
                bytes.push(match escape {
                    "r" => b'\r',
                    "n" => b'\n',
                    "0" => 0,
                    "x" => {
                        let (hex, after) = rest.split_at(2);
                        rest = after;
                        u8::from_str_radix(hex, 16).unwrap()
                    }
                    _ => b'\\',
                });
            }
            '{' if rest[1..].starts_with('*') => {
                let (count, after) = rest[2..].split_once('}').unwrap();
                bytes.extend(rest[..1].repeat(count.parse().unwrap()).bytes());
                rest = after;
            }
            other => bytes.extend(other.to_string().bytes()),
        }
    }
    bytes
}

/// Sends bytes, and reads until the gateway closes or, once it has answered, says nothing more for a moment.
async fn exchange(gateway: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    // It may answer and close before it has read everything.
    let _sent = stream.write_all(request).await;
    let mut answer = Vec::new();
    loop {
        let patience = if answer.is_empty() { 5000 } else { 200 };
        let mut chunk = [0; 4096];
        let read = tokio::time::timeout(Duration::from_millis(patience), stream.read(&mut chunk));
        match read.await {
            Ok(Ok(length)) if length > 0 => answer.extend_from_slice(&chunk[..length]),
            _ => return String::from_utf8_lossy(&answer).into_owned(),
        }
    }
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("-")
}

fn code_of(answer: &str) -> &str {
    let after = answer.split("\"code\":\"").nth(1);
    after.and_then(|rest| rest.split('"').next()).unwrap_or("-")
}

#[tokio::test]
async fn each_way_to_frame_a_request_has_its_answer() {
    let fake = Fake::start().await;
    let gateway = Running::start(all_at(&[&fake.url()])).await;

    let mut wrong = Vec::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let [name, request, status, code] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not four columns: {line}");
        };
        let answer = exchange(gateway.address, &bytes(request)).await;

        let closes = answer.contains("connection: close") || answer.starts_with("HTTP/1.0");
        let shall_close = status != "200" || name.ends_with("which closes");
        if (status_of(&answer), code_of(&answer)) != (status, code) || closes != shall_close {
            wrong.push(format!("{name}: expected {status} {code}, got {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_request_hidden_behind_another_is_not_answered() {
    let fake = Fake::start().await;
    let gateway = Running::start(all_at(&[&fake.url()])).await;

    for framing in [
        "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 44\r\n",
    ] {
        let hidden = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let request = format!(
            "POST /webhooks/events HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n0\r\n\r\n{hidden}"
        );

        let answer = exchange(gateway.address, request.as_bytes()).await;

        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        let seen = fake.take_one();
        assert_eq!(seen.uri.path(), "/webhooks/events");
        assert!(seen.body.is_empty());
        assert!(!seen.headers.contains_key("transfer-encoding"));
    }
}
