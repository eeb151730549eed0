//! What a benchmark reads off, and the table that it prints.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;

/// Linux tells every program of hundredths of a second, whatever the kernel counts in.
const TICKS_PER_S: f64 = 100.0;

/// Resident memory of a process, shared pages divided among their users, in bytes.
pub fn pss(pid: u32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("Pss")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// What a process has used of the processors so far, its own code and the kernel's for it.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything; utime and stime are the 14th and 15th field of all.
    let (_, rest) = stat.rsplit_once(") ").context("a name")?;
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || -> anyhow::Result<f64> { Ok(fields.next().context("a time")?.parse()?) };
    let (user, system) = (ticks()?, ticks()?);
    Ok(Duration::from_secs_f64((user + system) / TICKS_PER_S))
}

/// How many wanted a processor in the last minute: above the number of cores, figures are of little worth.
pub fn load_average() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// The rows that the command names; where it names none, all are asked for.
pub struct Asked(Vec<String>);

impl Asked {
    pub fn on_the_command_line() -> Self {
        Self::in_words(std::env::args().skip(1))
    }

    /// Cargo adds flags of its own, which name no row.
    fn in_words(words: impl Iterator<Item = String>) -> Self {
        Self(words.filter(|word| !word.starts_with('-')).collect())
    }

    pub fn for_row(&self, row: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|asked| asked == row)
    }
}

/// Of sorted values.
pub fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

pub fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("writing to stdout")
}

/// What was measured, what it came to, and what was aimed at.
#[derive(Default)]
pub struct Table(Vec<[String; 3]>);

impl Table {
    pub fn row(&mut self, what: &str, figure: String, target: &str) {
        self.0.push([what.to_owned(), figure, target.to_owned()]);
    }

    pub fn print(&self) -> anyhow::Result<()> {
        let width = |column: usize| {
            self.0
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or_default()
        };
        let (first, second) = (width(0), width(1));
        say("")?;
        for [what, figure, target] in &self.0 {
            say(&format!("{what:first$}  {figure:second$}  {target}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_measured() {
        let pid = std::process::id();

        let before = (pss(pid).unwrap(), cpu(pid).unwrap());
        let held = vec![1_u8; 8 << 20];
        let mut used = cpu(pid).unwrap();
        // Some ticks of the processor's; a cpu() that stands still never gets there.
        for _ in 0..10_000 {
            if used > before.1 + Duration::from_millis(50) {
                break;
            }
            let sum: u64 = held.iter().map(|byte| u64::from(*byte)).sum();
            assert_eq!(sum, 8 << 20);
            used = cpu(pid).unwrap();
        }

        assert!(pss(pid).unwrap() >= before.0 + (7 << 20));
        assert!(used > before.1 + Duration::from_millis(50), "{used:?}");
    }

    #[test]
    fn a_command_that_names_no_row_asks_for_all() {
        let asked = |words: &[&str]| Asked::in_words(words.iter().map(ToString::to_string));

        for (words, expected) in [
            (&["--bench"][..], true),
            (&["--bench", "memory"], true),
            (&["--bench", "latency"], false),
        ] {
            assert_eq!(asked(words).for_row("memory"), expected, "{words:?}");
        }
    }

    #[test]
    fn a_quantile_is_the_smallest_value_that_enough_do_not_exceed() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();

        for (q, expected) in [(0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(quantile(&sorted, q), Duration::from_millis(expected));
        }
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
