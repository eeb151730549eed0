//! Log lines on their way out: gathered in memory and written together, so that no request waits for their reader and a
//! busy second costs a few hundred writes.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// From the first line to the writing; what `kill -9` may lose.
const GATHER: Duration = Duration::from_millis(2);
/// Where the reader is slow, lines beyond these bytes are dropped, and counted.
const BYTES_MAX: usize = 4 << 20;
/// How long the end waits for a reader who reads no more.
const END_WAIT: Duration = Duration::from_secs(1);

/// Where lines are written to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogLines(Arc<Shared>);

/// Writes what is still gathered when dropped, at the end of `main`.
pub struct Guard(LogLines);

struct Shared {
    gathered: Mutex<Gathered>,
    changed: Condvar,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    dropped: u64,
    ends: bool,
    ended: bool,
}

impl LogLines {
    /// Starts the thread that writes to `out`.
    pub(crate) fn start(out: impl Write + Send + 'static) -> (Self, Guard) {
        let lines = Self(Arc::new(Shared {
            gathered: Mutex::default(),
            changed: Condvar::new(),
        }));
        let (written, guard) = (lines.clone(), Guard(lines.clone()));
        std::thread::spawn(move || written.write_until_the_end(out));
        (lines, guard)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        let gathered = self.0.gathered.lock();
        gathered.unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut gathered = self.lock();
        if gathered.bytes.len() + line.len() > BYTES_MAX {
            gathered.dropped += 1;
            return;
        }
        let is_first = gathered.bytes.is_empty();
        gathered.bytes.extend_from_slice(line);
        drop(gathered);
        if is_first {
            self.0.changed.notify_all();
        }
    }

    fn write_until_the_end(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            let is_idle = |gathered: &mut Gathered| gathered.bytes.is_empty() && !gathered.ends;
            let gathering = |gathered: &mut Gathered| !gathered.ends;
            let changed = &self.0.changed;
            let gathered = changed.wait_while(self.lock(), is_idle);
            let gathered = gathered.unwrap_or_else(PoisonError::into_inner);
            let gathered = changed.wait_timeout_while(gathered, GATHER, gathering);
            let (mut gathered, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut taken, &mut gathered.bytes);
            let (dropped, ends) = (std::mem::take(&mut gathered.dropped), gathered.ends);
            drop(gathered);

            // There is nowhere to tell that the log cannot be written.
            let _lost = out.write_all(&taken).and_then(|()| out.flush());
            taken.clear();
            if dropped > 0 {
                tracing::warn!(lines = dropped, "log lines were dropped");
            } else if ends {
                break;
            }
        }
        self.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl Write for &LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Self(lines) = self;
        lines.lock().ends = true;
        lines.0.changed.notify_all();
        let running = |gathered: &mut Gathered| !gathered.ended;
        let ended = lines
            .0
            .changed
            .wait_timeout_while(lines.lock(), END_WAIT, running);
        drop(ended);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Tells when a write begins, and holds it until it is let go.
    struct Slow {
        begins: mpsc::Sender<()>,
        goes: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _heard = self.begins.send(());
            let _let_go = self.goes.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The other end of [`Slow`].
    struct Reader {
        begun: mpsc::Receiver<()>,
        go: mpsc::Sender<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    fn slow() -> (Slow, Reader) {
        let ((begins, begun), (go, goes)) = (mpsc::channel(), mpsc::channel());
        let written = Arc::default();
        let slow = Slow {
            begins,
            goes,
            written: Arc::clone(&written),
        };
        (slow, Reader { begun, go, written })
    }

    #[test]
    fn every_line_is_written_in_order_by_the_end() {
        let (out, reader) = slow();
        drop(reader.go);
        let (lines, guard) = LogLines::start(out);

        for number in 0..1000 {
            lines.push(format!("{number}\n").as_bytes());
        }
        drop(guard);

        let text = String::from_utf8(reader.written.lock().unwrap().clone()).unwrap();
        assert!(
            text.lines()
                .map(str::to_owned)
                .eq((0..1000).map(|n| n.to_string()))
        );
    }

    #[test]
    fn a_reader_who_does_not_read_costs_lines_and_no_more_memory_than_the_bound() {
        let (out, reader) = slow();
        let (lines, guard) = LogLines::start(out);
        lines.push(b"first\n");
        reader.begun.recv().unwrap();

        let line = vec![b'x'; 1 << 20];
        for _ in 0..8 {
            lines.push(&line);
        }

        let gathered = lines.lock();
        assert_eq!((gathered.bytes.len(), gathered.dropped), (4 << 20, 4));
        drop(gathered);
        // The end does not wait for ever either.
        drop(guard);
        drop(reader);
    }
}
