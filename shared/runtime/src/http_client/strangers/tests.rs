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

/// What a receiver does with one request of a connection.
#[derive(Clone, Copy)]
enum Does {
    Answers,
    /// Takes it, and closes without a byte.
    Closes,
    /// As that, after one byte.
    BreaksOff,
}

/// A receiver that does these with the requests of a connection, one after the other.
async fn doing(requests: &'static [Does]) -> (String, mpsc::UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (came, comes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let came = came.clone();
            tokio::spawn(async move {
                for does in requests {
                    let read = stream.read(&mut [0; 4096]).await;
                    if !read.is_ok_and(|read| read > 0) {
                        return;
                    }
                    let _told = came.send(number);
                    let answer = match does {
                        Does::Answers => "HTTP/1.1 204 No Content\r\n\r\n",
                        Does::Closes => return,
                        Does::BreaksOff => "H",
                    };
                    let _written = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (url, comes)
}

/// Sends until a request goes over the connection of the first, and tells what became of that one.
async fn over_a_kept_one(
    client: &ClientWithMiddleware,
    (url, comes): &mut (String, mpsc::UnboundedReceiver<usize>),
) -> reqwest_middleware::Result<Response> {
    loop {
        let answer = client.post(&*url).body("{}").send().await.unwrap();
        answer.bytes().await.unwrap();
        let first = comes.recv().await.unwrap();
        let sent = client.post(&*url).body("{}").send().await;
        // The connection is given back by a task of its own, in its own time.
        if comes.recv().await.unwrap() == first {
            return sent;
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_breaks_before_any_byte_is_told_and_a_fresh_one_can_be_had() {
    use Does::{Answers, BreaksOff, Closes};
    for (requests, is_told) in [
        (&[Answers, Closes][..], true),
        (&[Answers, BreaksOff], false),
    ] {
        let client = client();
        let mut receiver = doing(requests).await;
        let fault = over_a_kept_one(&client, &mut receiver).await.unwrap_err();
        assert_eq!(failure_code(&fault), "connection_reset", "{fault:?}");
        assert_eq!(is_of_a_kept_connection(&fault), is_told, "{fault:?}");

        let fresh = client
            .post(&receiver.0)
            .with_extension(OverAFreshConnection);
        assert_eq!(fresh.send().await.unwrap().status(), 204);
    }
}

#[tokio::test]
async fn a_connection_of_its_own_that_breaks_is_no_kept_one() {
    let (url, _comes) = doing(&[Does::Closes]).await;
    let client = client();
    for _ in 0..3 {
        let fault = client.post(&url).send().await.unwrap_err();
        assert!(!is_of_a_kept_connection(&fault), "{fault:?}");
        let fresh = client.post(&url).with_extension(OverAFreshConnection);
        assert!(!is_of_a_kept_connection(&fresh.send().await.unwrap_err()));
    }
}
