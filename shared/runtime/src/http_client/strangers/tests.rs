use reqwest_middleware::ClientWithMiddleware;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Duration;

use super::super::head::tests::rows;
use super::super::{failure_code, hostile};
use super::*;

/// For what comes at once.
const LONG: Duration = Duration::from_secs(10);
/// For the end of a body that may have none.
const SHORT: Duration = Duration::from_millis(50);

fn client() -> ClientWithMiddleware {
    hostile(Arc::new(|_, _| true))
}

/// What a receiver saw of one connection.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request(usize),
    Closed(usize),
}

/// A receiver that answers every request with these bytes, and tells of which connection what came.
async fn receiver(answer: Vec<u8>) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (seen, see) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (seen, answer) = (seen.clone(), answer.clone());
            tokio::spawn(async move {
                while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    let _told = seen.send(Seen::Request(number));
                    // Who has seen enough of it closes.
                    let _written = stream.write_all(&answer).await;
                }
                let _told = seen.send(Seen::Closed(number));
            });
        }
    });
    (url, see)
}

#[tokio::test]
async fn an_answer_counts_as_curl_and_browsers_count_it() {
    for row in rows() {
        let (url, mut see) = receiver(row.answer).await;
        let client = client();
        let sent = client.post(&url).body("{}").send().await;
        let outcome = match sent {
            Ok(answer) => {
                let status = answer.status().as_u16().to_string();
                let _maybe_without_end = timeout(SHORT, answer.bytes()).await;
                status
            }
            Err(fault) => failure_code(&fault).to_owned(),
        };
        assert_eq!(outcome, row.outcome, "{}", row.name);

        assert_eq!(see.recv().await, Some(Seen::Request(0)));
        if row.is_kept {
            // The connection is given back by a task of its own, in its own time.
            let next = async {
                loop {
                    client
                        .post(&url)
                        .send()
                        .await
                        .unwrap()
                        .bytes()
                        .await
                        .unwrap();
                    if see.recv().await == Some(Seen::Request(0)) {
                        return;
                    }
                }
            };
            timeout(LONG, next).await.expect(row.name);
        } else {
            let seen = timeout(LONG, see.recv()).await.expect(row.name);
            assert_eq!(seen, Some(Seen::Closed(0)), "{}", row.name);
        }
    }
}

#[tokio::test]
async fn a_second_answer_is_not_taken_for_that_of_the_next_request() {
    let twice =
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
    let (url, _see) = receiver(twice.to_vec()).await;
    let client = client();
    for _ in 0..100 {
        let answer = client.post(&url).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
    }
}
