//! `signalpost backup DIRECTORY`: copies live stores. docs/BACKUP.md says how to restore.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};

use crate::output::say;
use crate::settings::Settings;

/// How long a checkpoint of the service is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// What stands behind a copy's name until both are whole.
const UNFINISHED: &str = ".unfinished";

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the copies go; made if it is not there. Copies that are there are not overwritten
    directory: PathBuf,
}

/// A store to copy.
pub struct Store {
    /// The variable that names it.
    pub variable: &'static str,
    pub path: PathBuf,
    /// The copy's name.
    pub copy: &'static str,
}

/// Copies delivery's store, then event-store's, and tells where to.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let stores = stores(&Settings::read()?)?;
    let directory = arguments.directory;
    let copies = tokio::task::spawn_blocking(move || copy(&stores, &directory)).await??;
    for copy in copies {
        say(copy.display().to_string());
    }
    Ok(())
}

/// The stores that the settings name, in the order in which they are copied: an event that delivery has heard of is in
/// the later copy of event-store too.
pub fn stores(settings: &Settings) -> anyhow::Result<[Store; 2]> {
    Ok([
        Store {
            variable: "DELIVERY_DATABASE_URL",
            path: file("DELIVERY_DATABASE_URL", &settings.delivery_database_url)?,
            copy: "delivery.db",
        },
        Store {
            variable: "EVENT_STORE_DATABASE_URL",
            path: file(
                "EVENT_STORE_DATABASE_URL",
                &settings.event_store_database_url,
            )?,
            copy: "event-store.db",
        },
    ])
}

fn file(variable: &str, url: &str) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(
        url != "memory:",
        "{variable} is `memory:`, which keeps nothing that could be copied"
    );
    // Its password is not told.
    let path = url
        .strip_prefix("sqlite:")
        .filter(|path| !path.is_empty() && !path.starts_with(':'));
    let path = path.with_context(|| format!("{variable} does not name an SQLite file"))?;
    Ok(path.into())
}

/// Copies the stores in turn while their services run, each as it stands at one moment. Every row that was committed
/// before the call is in a copy. Durable on return; on an error no unfinished copy is left.
pub fn copy(stores: &[Store], directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let changed = make(directory)?;
    let copies: Vec<Copy> = stores
        .iter()
        .map(|store| Copy::new(store, directory))
        .collect();
    for copy in &copies {
        copy.refuse_to_overwrite()?;
    }
    let mut unfinished = Vec::with_capacity(stores.len());
    for (store, copy) in stores.iter().zip(&copies) {
        unfinished.push(copy.begin()?);
        copy_one(store, &copy.unfinished)?;
    }
    for (copy, unfinished) in copies.iter().zip(unfinished) {
        fs::rename(&copy.unfinished, &copy.path)
            .with_context(|| format!("naming {}", copy.path.display()))?;
        unfinished.keep();
    }
    sync(directory)?;
    for directory in changed {
        sync(&directory)?;
    }
    Ok(copies.into_iter().map(|copy| copy.path).collect())
}

/// Makes the directory where it is not there: for its owner only, since payloads are in it. Returns the directories that
/// have a new entry.
fn make(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let missing = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let changed = missing.map(parent).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("making the directory {}", directory.display()))?;
    Ok(changed)
}

fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Where a copy goes.
struct Copy {
    path: PathBuf,
    unfinished: PathBuf,
}

/// A file that goes when it is dropped, unless it is kept.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _already_gone = fs::remove_file(path);
        }
    }
}

impl Copy {
    fn new(store: &Store, directory: &Path) -> Self {
        Self {
            path: directory.join(store.copy),
            unfinished: directory.join(format!("{}{UNFINISHED}", store.copy)),
        }
    }

    fn refuse_to_overwrite(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.path.exists(),
            "{} is there already: choose another directory",
            self.path.display()
        );
        Ok(())
    }

    /// Makes the empty file for its owner only; SQLite fills it, and would make one for everybody.
    fn begin(&self) -> anyhow::Result<Unfinished> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.unfinished)
            .with_context(|| {
                format!(
                    "making {}, which a backup that was broken off leaves behind",
                    self.unfinished.display()
                )
            })?;
        Ok(Unfinished(Some(self.unfinished.clone())))
    }
}

fn copy_one(store: &Store, to: &Path) -> anyhow::Result<()> {
    let from = store.path.display();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&store.path, flags)
        .with_context(|| format!("opening {from}, which {} names", store.variable))?;
    connection.busy_timeout(BUSY)?;
    let name = to.to_str().context("the directory's name is not UTF-8")?;
    connection
        .execute("VACUUM INTO ?", [name])
        .with_context(|| format!("copying {from}"))?;
    // SQLite leaves the copy to the page cache.
    sync(to)
}

fn sync(path: &Path) -> anyhow::Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("bringing {} to the disk", path.display()))
}
